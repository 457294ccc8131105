//! Chat templates: minijinja made to answer as jinja2 does in transformers.
//! docs/design/chat-templates.md lists every adjustment with the reason.
use crate::ffi::{caught, guard, Buffer, Slice};
use crate::meter::metered;
use crate::pystr::{to_str, Dumps, MAX_INDENT};
use crate::python;
use crate::strftime::{self, Clock};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use std::io;

const NAME: &str = "chat";
/// What compiling may allocate, and how often the source's size on top of it.
const COMPILE_BYTES: usize = 4 << 20;
const COMPILE_FACTOR: usize = 256;
/// Bytes of template values per byte of JSON that a list of small things comes to.
const VARIABLES_FACTOR: usize = 64;

pub struct Template {
    environment: Environment<'static>,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct RenderOptions {
    now: Clock,
    fuel: u64,
    output_bytes: usize,
    memory_bytes: usize,
}

pub fn invalid(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, text.into())
}

/// Rewrites what minijinja does not parse or cannot run: transformers' own
/// `{% generation %}` tag becomes `{% with %}`, which has the same inner scope, and
/// `[::-1]` (which panics on an empty list) becomes `|reverse`. Line numbers stay.
fn rewrite(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 16);
    let mut rest = source;
    while let Some(at) = rest.find('{') {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let close = match tail.as_bytes().get(1) {
            Some(b'%') => "%}",
            Some(b'{') => "}}",
            Some(b'#') => "#}",
            _ => {
                out.push('{');
                rest = &tail[1..];
                continue;
            }
        };
        let end = if close == "#}" {
            tail.find(close).map_or(tail.len(), |i| i + 2)
        } else {
            tag_end(tail, close)
        };
        let (tag, after) = tail.split_at(end);
        if close == "#}" {
            out.push_str(tag);
        } else {
            rewrite_tag(&mut out, tag);
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Where a tag ends: its closing mark outside string literals.
fn tag_end(tag: &str, close: &str) -> usize {
    let bytes = tag.as_bytes();
    let mut quote = None;
    let mut i = 2;
    while i < bytes.len() {
        match (quote, bytes[i]) {
            (Some(_), b'\\') => i += 1,
            (Some(q), b) if q == b => quote = None,
            (None, b @ (b'\'' | b'"')) => quote = Some(b),
            (None, _) if tag.as_bytes()[i..].starts_with(close.as_bytes()) => return i + 2,
            _ => {}
        }
        i += 1;
    }
    tag.len()
}

fn rewrite_tag(out: &mut String, tag: &str) {
    let inner = tag.trim_start_matches("{%").trim_start_matches(['-', '+']);
    let word = inner.trim_end_matches("%}").trim_end_matches(['-', '+']).trim();
    match word {
        "generation" => out.push_str(&tag.replacen("generation", "with", 1)),
        "endgeneration" => out.push_str(&tag.replacen("endgeneration", "endwith", 1)),
        _ => rewrite_reversal(out, tag),
    }
}

fn rewrite_reversal(out: &mut String, tag: &str) {
    let mut quote = None;
    let mut skip = 0;
    for (i, c) in tag.char_indices() {
        if i < skip {
            continue;
        }
        match quote {
            Some('\\') => quote = None,
            Some(q) if c == q => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            None if tag[i..].starts_with("[::-1]") => {
                out.push_str("|reverse");
                skip = i + "[::-1]".len();
                continue;
            }
            _ => {}
        }
        out.push(c);
    }
}

/// The i-th parameter, given by place or by name; none and undefined are not given.
pub fn argument(
    names: &[&str],
    i: usize,
    args: &[Value],
    kwargs: &Kwargs,
) -> Result<Option<Value>, Error> {
    if args.len() > names.len() {
        return Err(invalid(format!("expected at most {} arguments", names.len())));
    }
    let value = match args.get(i) {
        Some(value) => Some(value.clone()),
        None => kwargs.get::<Option<Value>>(names[i])?,
    };
    Ok(value.filter(|v| !v.is_none() && !v.is_undefined()))
}

fn tojson(value: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let option = |i: usize| argument(&names, i, &args, &kwargs);
    let dumps = Dumps {
        ensure_ascii: option(0)?.is_some_and(|v| v.is_true()),
        indent: option(1)?.map(|v| indentation(&v)).transpose()?,
        separators: option(2)?.map(|v| separators(&v)).transpose()?,
        sort_keys: option(3)?.is_some_and(|v| v.is_true()),
    };
    kwargs.assert_all_used()?;
    dumps.write(value)
}

fn indentation(value: &Value) -> Result<String, Error> {
    let text = match value.as_str() {
        Some(text) => text.to_string(),
        None => {
            let width = i64::try_from(value.clone())?;
            if width > MAX_INDENT as i64 {
                return Err(invalid(format!("expected an indent of at most {MAX_INDENT}")));
            }
            " ".repeat(width.max(0) as usize)
        }
    };
    if text.len() > MAX_INDENT {
        return Err(invalid(format!("expected an indent of at most {MAX_INDENT}")));
    }
    Ok(text)
}

fn separators(value: &Value) -> Result<(String, String), Error> {
    let parts: Vec<Value> = value.try_iter()?.collect();
    match parts.as_slice() {
        [item, key] if item.as_str().is_some() && key.as_str().is_some() => {
            Ok((to_str(item)?, to_str(key)?))
        }
        _ => Err(invalid("expected separators to be two strings")),
    }
}

/// jinja2's `indent(s, width=4, first=False, blank=False)`; a final newline stays.
fn indent(text: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let names = ["width", "first", "blank"];
    let option = |i: usize| argument(&names, i, &args, &kwargs);
    let pad = option(0)?.map_or_else(|| Ok(" ".repeat(4)), |v| indentation(&v))?;
    let first = option(1)?.is_some_and(|v| v.is_true());
    let blank = option(2)?.is_some_and(|v| v.is_true());
    kwargs.assert_all_used()?;
    let text = to_str(text)?;
    let mut out = String::with_capacity(text.len());
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        let wanted = if i == 0 { first } else { blank || !line.trim_end_matches('\r').is_empty() };
        if wanted {
            out.push_str(&pad);
        }
        out.push_str(line);
    }
    Ok(out)
}

fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    value
        .len()
        .or_else(|| match value.kind() {
            ValueKind::Iterable => value.try_iter().ok().map(|items| items.count()),
            _ => None,
        })
        .ok_or_else(|| invalid(format!("a value of type {} has no length", value.kind())))
}

fn is_iterable(value: &Value) -> bool {
    use ValueKind::*;
    matches!(value.kind(), String | Seq | Map | Iterable | Bytes | Undefined)
}

fn raise_exception(message: Value) -> Result<Value, Error> {
    Err(invalid(to_str(&message)?))
}

fn print(out: &mut Output, _: &mut State, value: &Value) -> Result<(), Error> {
    if value.is_undefined() {
        return Ok(());
    }
    let written = match value.as_str() {
        Some(text) => out.write_str(text),
        None => out.write_str(&to_str(value)?),
    };
    written.map_err(|_| Error::new(ErrorKind::WriteFailure, "cannot write the output"))
}

fn environment(source: &str) -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.set_unknown_method_callback(python::unknown_method);
    env.set_formatter(print);
    env.add_filter("tojson", tojson);
    env.add_filter("indent", indent);
    env.add_filter("length", length);
    env.add_filter("count", length);
    env.add_filter("center", python::center);
    env.add_filter("truncate", python::truncate);
    env.add_filter("wordcount", python::wordcount);
    env.add_filter("string", |value: &Value| to_str(value));
    env.add_test("iterable", is_iterable);
    env.add_function("raise_exception", raise_exception);
    env.add_template_owned(NAME, rewrite(source))?;
    Ok(env)
}

/// One line: where in the template, what, and what caused it.
fn describe(error: &Error) -> String {
    let mut text = match error.line() {
        Some(line) => format!("line {line}: "),
        None => String::new(),
    };
    match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => text += "expected an end, found too many steps",
        (ErrorKind::UndefinedError, None) => text += "undefined value",
        (_, Some(detail)) => text += detail,
        (kind, None) => text += &kind.to_string(),
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.downcast_ref::<Error>().map_or_else(
            || cause.to_string(),
            |e| e.detail().map_or_else(|| e.kind().to_string(), str::to_string),
        );
        if !text.contains(&cause_text) {
            text += ": ";
            text += &cause_text;
        }
        source = cause.source();
    }
    text
}

/// JSON to template values, key order kept.
fn to_value(json: serde_json::Value) -> Value {
    use serde_json::Value::*;
    match json {
        Null => Value::from(()),
        Bool(b) => Value::from(b),
        Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => Value::from(i),
            (None, Some(u)) => Value::from(u),
            _ => Value::from(n.as_f64().unwrap_or(f64::NAN)),
        },
        String(text) => Value::from(text),
        Array(list) => list.into_iter().map(to_value).collect(),
        Object(map) => Value::from_pairs(map.into_iter().map(|(k, v)| (k, to_value(v)))),
    }
}

/// Text up to a limit; more is a write error.
struct Bounded {
    text: Vec<u8>,
    limit: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit - self.text.len() {
            let text = format!("expected at most {} bytes of output", self.limit);
            return Err(io::Error::other(text));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Template {
    fn compile(source: &str) -> Result<Template, String> {
        let environment = environment(source).map_err(|e| describe(&e))?;
        Ok(Template { environment })
    }

    fn render(&self, variables: &str, options: &RenderOptions) -> Result<String, String> {
        let now = options.now;
        now.check()?;
        let json: serde_json::Value =
            serde_json::from_str(variables).map_err(|e| format!("variables: {e}"))?;
        let serde_json::Value::Object(map) = json else {
            return Err("variables: expected an object".into());
        };
        let mut env = self.environment.clone();
        env.set_fuel(Some(options.fuel));
        env.add_function("strftime_now", move |pattern: &str| {
            strftime::format(&now, pattern).map_err(invalid)
        });
        let context = Value::from_pairs(map.into_iter().map(|(k, v)| (k, to_value(v))));
        let mut out = Bounded { text: Vec::new(), limit: options.output_bytes };
        env.get_template(NAME)
            .and_then(|template| template.render_captured_to(context, &mut out).map(|_| ()))
            .map_err(|e| describe(&e))?;
        String::from_utf8(out.text).map_err(|e| e.to_string())
    }
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_template_compile(
    source: Slice,
    out: *mut *mut Template,
    error: *mut Buffer,
) -> i32 {
    guard(out, error, || {
        let source = source.text()?;
        let bytes = COMPILE_BYTES + source.len().saturating_mul(COMPILE_FACTOR);
        metered(bytes, || Template::compile(source)).map(|t| Box::into_raw(Box::new(t)))
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_template_free(template: *mut Template) {
    if !template.is_null() {
        let _ = caught(|| {
            drop(Box::from_raw(template));
            Ok(())
        });
    }
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_template_render(
    template: *const Template,
    variables: Slice,
    options: *const RenderOptions,
    text: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(text, error, || {
        let (variables, options) = (variables.text()?, &*options);
        let bytes =
            options.memory_bytes.saturating_add(variables.len().saturating_mul(VARIABLES_FACTOR));
        Ok(metered(bytes, || (*template).render(variables, options))?.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, variables: &str) -> Result<String, String> {
        let now =
            Clock { year: 2026, month: 2, day: 3, hour: 4, minute: 5, second: 6, microsecond: 0 };
        let options =
            RenderOptions { now, fuel: 100_000, output_bytes: 1 << 16, memory_bytes: 1 << 20 };
        Template::compile(source)?.render(variables, &options)
    }

    #[test]
    fn rewriting_leaves_strings_and_comments() {
        let source = "{{ '[::-1] %} generation' }}{# {% generation %} #}{%- generation -%}x{% endgeneration +%}{{ a[::-1] }}";
        assert_eq!(
            rewrite(source),
            "{{ '[::-1] %} generation' }}{# {% generation %} #}{%- with -%}x{% endwith +%}{{ a|reverse }}"
        );
    }

    #[test]
    fn reversed_empty_list() {
        assert_eq!(
            render("{% for m in messages[::-1] %}x{% endfor %}", r#"{"messages":[]}"#).unwrap(),
            ""
        );
    }

    #[test]
    fn limits() {
        assert!(render(
            "{% for i in range(100000) %}{% for j in range(1000) %}{% endfor %}{% endfor %}",
            "{}"
        )
        .unwrap_err()
        .contains("too many steps"));
        assert!(render("{% for i in range(10000) %}xxxxxxxxxx{% endfor %}", "{}")
            .unwrap_err()
            .contains("bytes of output"));
        assert!(render("{{ 'x'|indent(10000000000) }}", "{}").is_err());
        assert!(render("{{ [1]|tojson(indent=10000000000) }}", "{}").is_err());
        assert!(render("{{ '-' * 10000000000 }}", "{}").is_err());
    }

    #[test]
    fn memory_is_limited() {
        let metered = |source: &str| {
            let options = RenderOptions {
                now: Clock {
                    year: 2026,
                    month: 2,
                    day: 3,
                    hour: 4,
                    minute: 5,
                    second: 6,
                    microsecond: 0,
                },
                fuel: 1_000_000,
                output_bytes: 1 << 16,
                memory_bytes: 0,
            };
            let template = Template::compile(source).unwrap();
            metered(1 << 20, || template.render("{}", &options))
        };
        for growth in [
            "ns.s ~ ns.s",
            "ns.s + ns.s",
            "[ns.s, ns.s]|join",
            "ns.s|replace('x', 'xx')",
            "'%s%s'|format(ns.s, ns.s)",
            "[ns.s, ns.s]|tojson",
            "(ns.s ~ ns.s)|upper",
            "[ns.s, [ns.s]]",
        ] {
            let source = "{% set ns = namespace(s='x') %}{% for i in range(60) %}\
                          {% set ns.s = GROWTH %}{% endfor %}{{ ns.s|string|length }}";
            let text = metered(&source.replace("GROWTH", growth)).unwrap_err();
            assert!(text.contains("memory") || text.contains("too many"), "{growth}: {text}");
        }
        assert_eq!(metered("{{ 'x' ~ 'y' }}").unwrap(), "xy");
    }

    #[test]
    fn errors_name_the_line() {
        let text = render("\n{{ raise_exception('no\nway') }}", "{}").unwrap_err();
        assert_eq!(text, "line 2: no\nway");
    }
}

//! Chat templates: minijinja made to answer as jinja2 does in transformers.
//! docs/design/chat-templates.md lists every adjustment with the reason.
use crate::ffi::{caught, guard, Buffer, Slice};
use crate::filters::{self, invalid};
use crate::meter::metered;
use crate::rewrite::rewrite;
use crate::strftime::{self, Clock};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value};
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

fn environment(source: &str) -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    filters::add_to(&mut env);
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

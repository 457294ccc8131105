//! Filters, tests and functions as jinja2 and transformers have them where minijinja's
//! own differ. Methods of values are in python.rs.
use crate::pystr::{to_str, Dumps, MAX_INDENT};
use crate::python;
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};

pub fn invalid(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, text.into())
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

/// Adds all of them.
pub fn add_to(env: &mut Environment) {
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
}

//! Values as Python writes them: `str()`, `repr()` and `json.dumps()`. Chat templates
//! are written against Python, and a space more or less changes the prompt.
use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};
use regex::Regex;
use std::fmt::Write;
use std::sync::OnceLock;

/// Deepest nesting that is written.
const MAX_DEPTH: usize = 128;
/// Widest indentation.
pub const MAX_INDENT: usize = 64;

fn invalid(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, text.into())
}

fn deeper(depth: usize) -> Result<usize, Error> {
    if depth >= MAX_DEPTH {
        return Err(invalid(format!("expected at most {MAX_DEPTH} nested values")));
    }
    Ok(depth + 1)
}

/// The float in `value`, when it is one (and not an integer).
fn as_float(value: &Value) -> Option<f64> {
    if value.kind() == ValueKind::Number && !value.is_integer() {
        f64::try_from(value.clone()).ok()
    } else {
        None
    }
}

/// `repr` of a float: shortest digits, an exponent from 1e16 on and below 1e-4.
pub fn float(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.into();
    }
    let shortest = format!("{x:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if x == 0.0 || (-4..16).contains(&exponent) {
        let plain = format!("{x}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `str(value)`.
pub fn to_str(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_string());
    }
    let mut out = String::new();
    repr(&mut out, value, 0)?;
    Ok(out)
}

fn repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    if let Some(text) = value.as_str() {
        if depth == 0 {
            out.push_str(text);
        } else {
            repr_text(out, text);
        }
        return Ok(());
    }
    if let Some(x) = as_float(value) {
        out.push_str(&float(x));
        return Ok(());
    }
    match value.kind() {
        ValueKind::Seq => repr_list(out, value, depth),
        ValueKind::Map => repr_map(out, value, depth),
        _ => {
            let _ = write!(out, "{value}");
            Ok(())
        }
    }
}

fn repr_list(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    let depth = deeper(depth)?;
    let tuple = value.is_tuple();
    out.push(if tuple { '(' } else { '[' });
    let mut count = 0;
    for item in value.try_iter()? {
        if count > 0 {
            out.push_str(", ");
        }
        repr(out, &item, depth)?;
        count += 1;
    }
    if tuple && count == 1 {
        out.push(',');
    }
    out.push(if tuple { ')' } else { ']' });
    Ok(())
}

fn repr_map(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    let depth = deeper(depth)?;
    out.push('{');
    for (i, key) in value.try_iter()?.enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        repr(out, &key, depth)?;
        out.push_str(": ");
        repr(out, &value.get_item(&key)?, depth)?;
    }
    out.push('}');
    Ok(())
}

/// Characters that Python's `str.isprintable` refuses.
fn unprintable(c: char) -> bool {
    match c {
        ' '..='~' => false,
        c if c.is_ascii() => true,
        c => other().is_match(c.encode_utf8(&mut [0; 4])),
    }
}

fn other() -> &'static Regex {
    // Not a LazyLock: where making it runs out of memory, the next call tries again.
    static OTHER: OnceLock<Regex> = OnceLock::new();
    OTHER.get_or_init(|| {
        Regex::new(r"^[\p{C}\p{Zl}\p{Zp}\p{Zs}]$").expect("constant pattern")
    })
}

fn repr_text(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if unprintable(c) => {
                let code = c as u32;
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// How `json.dumps` is asked to write.
#[derive(Default)]
pub struct Dumps {
    pub ensure_ascii: bool,
    pub indent: Option<String>,
    pub separators: Option<(String, String)>,
    pub sort_keys: bool,
}

impl Dumps {
    pub fn write(&self, value: &Value) -> Result<String, Error> {
        let mut out = String::new();
        self.value(&mut out, value, 0)?;
        Ok(out)
    }

    fn item_separator(&self) -> &str {
        match (&self.separators, &self.indent) {
            (Some((item, _)), _) => item,
            (None, Some(_)) => ",",
            (None, None) => ", ",
        }
    }

    fn key_separator(&self) -> &str {
        self.separators.as_ref().map_or(": ", |(_, key)| key)
    }

    fn new_line(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            for _ in 0..depth {
                out.push_str(indent);
            }
        }
    }

    fn value(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        if let Some(text) = value.as_str() {
            self.text(out, text);
            return Ok(());
        }
        if let Some(x) = as_float(value) {
            out.push_str(&json_float(x));
            return Ok(());
        }
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => write!(out, "{value}").unwrap_or(()),
            ValueKind::Seq | ValueKind::Iterable => self.list(out, value, deeper(depth)?)?,
            ValueKind::Map => self.map(out, value, deeper(depth)?)?,
            kind => return Err(invalid(format!("{kind} is not JSON serializable"))),
        }
        Ok(())
    }

    fn list(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        out.push('[');
        let mut empty = true;
        for item in value.try_iter()? {
            if !empty {
                out.push_str(self.item_separator());
            }
            empty = false;
            self.new_line(out, depth);
            self.value(out, &item, depth)?;
        }
        if !empty {
            self.new_line(out, depth - 1);
        }
        out.push(']');
        Ok(())
    }

    fn map(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        let mut entries = Vec::new();
        for key in value.try_iter()? {
            entries.push((json_key(&key)?, value.get_item(&key)?));
        }
        if self.sort_keys {
            entries.sort_by(|a, b| a.0.cmp(&b.0));
        }
        out.push('{');
        for (i, (key, item)) in entries.iter().enumerate() {
            if i > 0 {
                out.push_str(self.item_separator());
            }
            self.new_line(out, depth);
            self.text(out, key);
            out.push_str(self.key_separator());
            self.value(out, item, depth)?;
        }
        if !entries.is_empty() {
            self.new_line(out, depth - 1);
        }
        out.push('}');
        Ok(())
    }

    fn text(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if (c as u32) < 0x20 => write!(out, "\\u{:04x}", c as u32).unwrap_or(()),
                c if self.ensure_ascii && (c as u32) >= 0x7f => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(out, "\\u{unit:04x}").unwrap_or(());
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

fn json_float(x: f64) -> String {
    if x.is_nan() {
        "NaN".into()
    } else if x.is_infinite() {
        if x > 0.0 { "Infinity" } else { "-Infinity" }.into()
    } else {
        float(x)
    }
}

fn json_key(key: &Value) -> Result<String, Error> {
    if let Some(text) = key.as_str() {
        return Ok(text.to_string());
    }
    match key.kind() {
        ValueKind::None => Ok("null".into()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.into()),
        ValueKind::Number => Ok(as_float(key).map_or_else(|| key.to_string(), json_float)),
        kind => Err(invalid(format!("a key of kind {kind} is not JSON serializable"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_as_python() {
        for (x, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1e20, "1e+20"),
            (1.5e-7, "1.5e-07"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1e100, "1e+100"),
            (123456.789, "123456.789"),
        ] {
            assert_eq!(float(x), text);
        }
    }

    #[test]
    fn texts_in_lists() {
        let list: Value = vec!["it's", "\"", "a\n\u{200b}", "é"].into();
        assert_eq!(to_str(&list).unwrap(), "[\"it's\", '\"', 'a\\n\\u200b', 'é']");
    }

    #[test]
    fn json_with_and_without_ascii() {
        let text = Value::from("é😀\u{7f}<");
        assert_eq!(Dumps::default().write(&text).unwrap(), "\"é😀\u{7f}<\"");
        let ascii = Dumps { ensure_ascii: true, ..Default::default() };
        assert_eq!(ascii.write(&text).unwrap(), "\"\\u00e9\\ud83d\\ude00\\u007f<\"");
    }
}

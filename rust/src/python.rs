//! Methods of Python's str and filters of jinja2 that minijinja and its pycompat lack.
use crate::filters::{argument, invalid};
use minijinja::value::{from_args, Kwargs, Rest, Tuple};
use minijinja::{Error, ErrorKind, State, Value};
use regex::Regex;
use std::sync::OnceLock;

/// Longest text a padding method makes.
const MAX_WIDTH: usize = 1 << 16;

/// What is called when a value has no such method.
pub fn unknown_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        if let Some(result) = string_method(text, method, args)? {
            return Ok(result);
        }
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let result = match method {
        "rsplit" => rsplit(text, args)?,
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "partition" => {
            let (separator,): (&str,) = from_args(args)?;
            let (head, tail) = text.split_once(not_empty(separator)?).unzip();
            let found = head.map_or("", |_| separator);
            triple(head.unwrap_or(text), found, tail.unwrap_or(""))
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let (head, tail) = text.rsplit_once(not_empty(separator)?).unzip();
            let found = head.map_or("", |_| separator);
            triple(head.unwrap_or(""), found, tail.unwrap_or(text))
        }
        "index" | "rindex" => {
            let (what,): (&str,) = from_args(args)?;
            let at = if method == "index" { text.find(what) } else { text.rfind(what) };
            let at = at.ok_or_else(|| invalid("substring not found"))?;
            Value::from(text[..at].chars().count())
        }
        "casefold" => {
            let () = from_args(args)?;
            Value::from(text.to_lowercase())
        }
        "swapcase" => {
            let () = from_args(args)?;
            let swap = |c: char| -> String {
                if c.is_uppercase() {
                    c.to_lowercase().collect()
                } else {
                    c.to_uppercase().collect()
                }
            };
            Value::from(text.chars().map(swap).collect::<String>())
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let (sign, digits) = match text.strip_prefix(['+', '-']) {
                Some(digits) => (&text[..1], digits),
                None => ("", text),
            };
            let zeros = missing(text, width)?;
            Value::from(format!("{sign}{}{digits}", "0".repeat(zeros)))
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<&str>) = from_args(args)?;
            justified(text, method, width, fill.unwrap_or(" "))?
        }
        _ => return Ok(None),
    };
    Ok(Some(result))
}

fn triple(head: &str, separator: &str, tail: &str) -> Value {
    Tuple::from([Value::from(head), Value::from(separator), Value::from(tail)]).into()
}

fn not_empty(separator: &str) -> Result<&str, Error> {
    if separator.is_empty() {
        return Err(invalid("empty separator"));
    }
    Ok(separator)
}

/// How many characters are missing to `width`.
fn missing(text: &str, width: usize) -> Result<usize, Error> {
    if width > MAX_WIDTH {
        return Err(invalid(format!("expected a width of at most {MAX_WIDTH}")));
    }
    Ok(width.saturating_sub(text.chars().count()))
}

fn justified(text: &str, method: &str, width: usize, fill: &str) -> Result<Value, Error> {
    if fill.chars().count() != 1 {
        return Err(invalid("the fill character must be exactly one character long"));
    }
    let pad = missing(text, width)?;
    let left = match method {
        "ljust" => 0,
        "rjust" => pad,
        _ => pad / 2 + (pad & width & 1), // as CPython rounds
    };
    Ok(Value::from(format!("{}{text}{}", fill.repeat(left), fill.repeat(pad - left))))
}

fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
    let most = most.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX - 1);
    let mut parts: Vec<&str> = match separator {
        Some(separator) => text.rsplitn(most + 1, not_empty(separator)?).collect(),
        None => {
            let mut parts = Vec::new();
            let mut rest = text.trim();
            while !rest.is_empty() {
                match rest.rfind(char::is_whitespace).filter(|_| parts.len() < most) {
                    None => {
                        parts.push(rest);
                        break;
                    }
                    Some(at) => {
                        let space = rest[at..].chars().next().map_or(1, char::len_utf8);
                        parts.push(&rest[at + space..]);
                        rest = rest[..at].trim_end();
                    }
                }
            }
            parts
        }
    };
    parts.reverse();
    Ok(parts.into_iter().map(Value::from).collect())
}

fn text_of(value: &Value) -> Result<&str, Error> {
    value.as_str().ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("expected a string, found {}", value.kind()),
        )
    })
}

/// jinja2's `truncate(s, length=255, killwords=False, end='...', leeway=5)`.
pub fn truncate(value: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let names = ["length", "killwords", "end", "leeway"];
    let option = |i: usize| argument(&names, i, &args, &kwargs);
    let length = option(0)?.map_or(Ok(255), usize::try_from)?;
    let kill = option(1)?.is_some_and(|v| v.is_true());
    let end = option(2)?.map_or(Ok("...".to_string()), |v| text_of(&v).map(str::to_string))?;
    let leeway = option(3)?.map_or(Ok(5), usize::try_from)?;
    kwargs.assert_all_used()?;
    let text = text_of(value)?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text.to_string());
    }
    let keep = length
        .checked_sub(end.chars().count())
        .ok_or_else(|| invalid("expected a length of at least that of the end"))?;
    let mut kept: String = text.chars().take(keep).collect();
    if !kill {
        if let Some(at) = kept.rfind(' ') {
            kept.truncate(at);
        }
    }
    Ok(kept + &end)
}

/// jinja2's `wordcount`.
pub fn wordcount(value: &Value) -> Result<usize, Error> {
    static WORD: OnceLock<Regex> = OnceLock::new();
    let word = WORD.get_or_init(|| Regex::new(r"\w+").expect("constant pattern"));
    Ok(word.find_iter(text_of(value)?).count())
}

/// jinja2's `center(value, width=80)`.
pub fn center(value: &Value, width: Option<usize>) -> Result<Value, Error> {
    justified(text_of(value)?, "center", width.unwrap_or(80), " ")
}

//! What minijinja does not parse or cannot run of a chat template, put otherwise.

/// Transformers' own `{% generation %}` tag becomes `{% with %}`, which has the same inner scope, and
/// `[::-1]` (which panics on an empty list) becomes `|reverse`. Line numbers stay.
pub fn rewrite(source: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewriting_leaves_strings_and_comments() {
        let source = "{{ '[::-1] %} generation' }}{# {% generation %} #}{%- generation -%}x{% endgeneration +%}{{ a[::-1] }}";
        assert_eq!(
            rewrite(source),
            "{{ '[::-1] %} generation' }}{# {% generation %} #}{%- with -%}x{% endwith +%}{{ a|reverse }}"
        );
    }
}

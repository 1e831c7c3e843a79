//! Patterns with `*`, matched against the whole text.

/// Whether `text` is `pattern`, where `*` stands for any characters or none. Linear where there is one star, and never worse than
/// the product of the lengths.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut position) = (0, 0);
    // The last star, and how far the text went into it.
    let mut star: Option<(usize, usize)> = None;
    while position < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, position));
                at += 1;
            }
            Some(byte) if *byte == text[position] => {
                at += 1;
                position += 1;
            }
            _ => {
                let Some((back, taken)) = star else { return false };
                star = Some((back, taken + 1));
                at = back + 1;
                position = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, text, expected) in [
            ("foo", "foo", true),
            ("foo", "foobar", false),
            ("foo", "", false),
            ("f*o", "foo", true),
            ("f*o", "fo", true),
            ("f*o", "fooba", false),
            ("*", "", true),
            ("**", "anything\nat all", true),
            ("a*b*c", "abbcbc", true),
            ("a*b*c", "abbcb", false),
            ("*node*", "my-node-1", true),
            // Anything but the star stands for itself.
            ("a.c", "abc", false),
            ("a|b", "a", false),
            ("(trixie)", "(trixie)", true),
            ("é*", "é1", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}

//! Texts with `*`, matched in time linear in the text.

/// The pieces of text between the stars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wildcard {
    first: String,
    /// Those between two stars, then the one after the last star; empty: there is no star.
    rest: Vec<String>,
}

impl Wildcard {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut pieces = vec![String::new()];
        let mut chars = text.chars();
        let mut after_star = false;
        while let Some(c) = chars.next() {
            let last = pieces.last_mut().expect("invariant: there is always a piece");
            match c {
                '*' if after_star => return Err("two stars in a row mean no more than one"),
                '*' => pieces.push(String::new()),
                '\\' => match chars.next() {
                    Some(c @ ('*' | '\\')) => last.push(c),
                    _ => return Err(r"after a backslash comes \ or *"),
                },
                c => last.push(c),
            }
            after_star = c == '*';
        }
        let first = pieces.remove(0);
        Ok(Self { first, rest: pieces })
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let Some((last, between)) = self.rest.split_last() else { return text == self.first };
        let Some(mut left) = text.strip_prefix(self.first.as_str()) else { return false };
        for piece in between {
            // The first place is as good as any: it leaves the most for the others.
            let Some(at) = left.find(piece.as_str()) else { return false };
            left = &left[at + piece.len()..];
        }
        left.ends_with(last.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text_and_may_be_escaped() {
        let matches = |pattern: &str, text: &str| Wildcard::parse(pattern).unwrap().matches(text);
        for (pattern, text) in [
            ("*", ""),
            ("*", "abc"),
            ("a*", "a"),
            ("*c", "abc"),
            ("a*c", "ac"),
            ("a*b*c", "abbc"),
            ("*ab*ab*", "abab"),
            (r"a\*b", "a*b"),
            (r"a\\*", r"a\x"),
            ("", ""),
            ("ü*ß", "ü-ß"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a*", "ba"),
            ("a*a", "a"),
            ("*ab*ab*", "abaab "[..3].trim()),
            (r"a\*b", "axb"),
            ("", "a"),
            ("a*b*c", "acb"),
            ("*c", "cb"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        assert!(Wildcard::parse("a**b").is_err());
        assert!(Wildcard::parse(r"a\b").is_err() && Wildcard::parse("a\\").is_err());
    }
}

//! Consistent overhead byte stuffing: bytes without a zero, so that a zero ends a frame.

/// Writes stuffed bytes behind each other.
#[derive(Debug)]
pub(super) struct Stuffer<'o> {
    out: &'o mut [u8],
    at: usize,
    /// Where the length of the open block goes.
    code_at: usize,
    code: u8,
}

impl<'o> Stuffer<'o> {
    /// Writes into `out`, which holds a whole frame.
    pub(super) fn new(out: &'o mut [u8]) -> Self {
        Self { out, at: 1, code_at: 0, code: 1 }
    }

    pub(super) fn push(&mut self, byte: u8) {
        if byte == 0 {
            return self.close();
        }
        self.out[self.at] = byte;
        self.at += 1;
        self.code += 1;
        if self.code == u8::MAX {
            self.close();
        }
    }

    fn close(&mut self) {
        self.out[self.code_at] = self.code;
        self.code_at = self.at;
        self.at += 1;
        self.code = 1;
    }

    /// How many bytes were written.
    pub(super) fn finish(self) -> usize {
        self.out[self.code_at] = self.code;
        self.at
    }
}

/// Takes the stuffing out, in place. `None`: the blocks do not fit the length, or there is a zero.
pub(super) fn unstuff(bytes: &mut [u8]) -> Option<usize> {
    let (mut from, mut to) = (0, 0);
    while from < bytes.len() {
        let code = bytes[from];
        if code == 0 {
            return None;
        }
        from += 1;
        for _ in 1..code {
            let byte = *bytes.get(from)?;
            if byte == 0 {
                return None;
            }
            bytes[to] = byte;
            from += 1;
            to += 1;
        }
        if code < u8::MAX && from < bytes.len() {
            bytes[to] = 0;
            to += 1;
        }
    }
    Some(to)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn stuff(bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![0; bytes.len() + bytes.len() / 254 + 2];
        let mut stuffer = Stuffer::new(&mut out);
        bytes.iter().for_each(|byte| stuffer.push(*byte));
        let length = stuffer.finish();
        out.truncate(length);
        out
    }

    #[test]
    fn examples_of_the_paper() {
        assert_eq!(stuff(&[]), [1]);
        assert_eq!(stuff(&[0]), [1, 1]);
        assert_eq!(stuff(&[0x11, 0, 0x33]), [2, 0x11, 2, 0x33]);
        assert_eq!(stuff(&[0x11, 0, 0, 0]), [2, 0x11, 1, 1, 1]);
    }

    proptest! {
        #[test]
        fn what_is_stuffed_has_no_zero_and_comes_back(
            bytes in prop::collection::vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..700),
        ) {
            let mut stuffed = stuff(&bytes);
            prop_assert!(!stuffed.contains(&0));
            prop_assert!(stuffed.len() <= bytes.len() + bytes.len() / 254 + 1);
            let length = unstuff(&mut stuffed);
            prop_assert_eq!(length.map(|length| &stuffed[..length]), Some(&bytes[..]));
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let length = bytes.len();
            prop_assert!(unstuff(&mut bytes).is_none_or(|written| written <= length));
        }
    }
}

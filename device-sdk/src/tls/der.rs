//! DER (ITU-T X.690): elements, one after the other.

/// Bytes that are not DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotDer;

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_ID: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;

/// An element: its tag, its content, and the bytes of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    pub(super) whole: &'a [u8],
}

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element. Lengths are definite, as short as they can be, and under 64 KiB; tags are one byte.
    pub(super) fn next(&mut self) -> Result<Element<'a>, NotDer> {
        let (&[tag, first], rest) = self.0.split_first_chunk().ok_or(NotDer)?;
        let (length, head, shortest) = match (first, rest) {
            (0x81, &[length, ..]) => (usize::from(length), 3, 0x80),
            (0x82, &[high, low, ..]) => (usize::from(u16::from_be_bytes([high, low])), 4, 0x100),
            (0x80.., _) => return Err(NotDer),
            (..0x80, _) => (usize::from(first), 2, 0),
        };
        if length < shortest || tag & 0x1F == 0x1F {
            return Err(NotDer);
        }
        let (whole, rest) = self.0.split_at_checked(head + length).ok_or(NotDer)?;
        self.0 = rest;
        Ok(Element { tag, content: &whole[head..], whole })
    }

    /// The next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<Element<'a>, NotDer> {
        let element = self.next()?;
        if element.tag == tag { Ok(element) } else { Err(NotDer) }
    }

    /// The content of the next element, which must have this tag, to be read in turn.
    pub(super) fn enter(&mut self, tag: u8) -> Result<Self, NotDer> {
        self.expect(tag).map(|element| Self(element.content))
    }

    /// The next element if it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, NotDer> {
        if self.0.first() == Some(&tag) { self.next().map(Some) } else { Ok(None) }
    }

    pub(super) fn end(&self) -> Result<(), NotDer> {
        if self.is_empty() { Ok(()) } else { Err(NotDer) }
    }
}

/// The bytes of a bit string of whole bytes.
pub(super) fn bytes_of_bits(content: &[u8]) -> Result<&[u8], NotDer> {
    match content {
        [0, bytes @ ..] => Ok(bytes),
        _ => Err(NotDer),
    }
}

/// Seconds since 1970 of a time as RFC 5280, 4.1.2.5 has it: `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
pub(super) fn unix_s(element: &Element<'_>) -> Result<u64, NotDer> {
    let text = element.content.strip_suffix(b"Z").ok_or(NotDer)?;
    let (year, rest) = match (element.tag, text.len()) {
        (UTC_TIME, 12) => {
            let year = number(&text[..2])?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&text[..4])?, &text[4..]),
        _ => return Err(NotDer),
    };
    let mut fields = [0; 5];
    for (field, digits) in fields.iter_mut().zip(rest.chunks(2)) {
        *field = number(digits)?;
    }
    let [month, day, hour, minute, second] = fields;
    let sound = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !sound || year < 1970 {
        return Err(NotDer);
    }
    // Days since 1970 with the year beginning in March, so that the leap day is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Ok((days - 719_468) * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn number(digits: &[u8]) -> Result<u64, NotDer> {
    digits.iter().try_fold(0, |sum, digit| match digit {
        b'0'..=b'9' => Ok(10 * sum + u64::from(digit - b'0')),
        _ => Err(NotDer),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(tag: u8, text: &str) -> Result<u64, NotDer> {
        unix_s(&Element { tag, content: text.as_bytes(), whole: &[] })
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(time(UTC_TIME, "700101000000Z"), Ok(0));
        assert_eq!(time(UTC_TIME, "000229120000Z"), Ok(951_825_600));
        assert_eq!(time(UTC_TIME, "261127020000Z"), Ok(1_795_744_800));
        assert_eq!(time(GENERALIZED_TIME, "20991231235959Z"), Ok(4_102_444_799));
        assert_eq!(time(GENERALIZED_TIME, "99991231235959Z"), Ok(253_402_300_799));
        for bad in ["", "Z", "2611270200Z", "261327020000Z", "26112702000aZ", "261127020000+0000"] {
            assert_eq!(time(UTC_TIME, bad), Err(NotDer), "{bad}");
        }
        assert_eq!(time(GENERALIZED_TIME, "19691231235959Z"), Err(NotDer));
    }

    #[test]
    fn lengths_are_as_short_as_they_can_be() {
        let next = |bytes: &'static [u8]| Reader(bytes).next();
        assert_eq!(next(&[4, 1, 9, 7]), Ok(Element { tag: 4, content: &[9], whole: &[4, 1, 9] }));
        for bad in
            [&[][..], &[4], &[4, 1], &[4, 0x80], &[4, 0x81, 1, 9], &[4, 0x82, 0, 1, 9], &[0x1F, 0]]
        {
            assert_eq!(next(bad), Err(NotDer), "{bad:?}");
        }
    }
}

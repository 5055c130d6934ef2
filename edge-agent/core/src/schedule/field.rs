//! Fields of a cron expression: lists of numbers, ranges and steps as bit sets.

use super::ScheduleError;

/// A set of numbers below 256: distances from the lowest number of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers([u64; 4]);

impl Numbers {
    pub(super) fn insert(&mut self, n: u32) {
        self.0[n as usize / 64] |= 1 << (n % 64);
    }

    pub(super) fn contains(&self, n: u32) -> bool {
        self.0.get(n as usize / 64).is_some_and(|word| word & (1 << (n % 64)) != 0)
    }

    /// First member at or after `n`, below 256.
    pub(super) fn at_or_after(&self, n: u32) -> Option<u32> {
        (n..256).find(|n| self.contains(*n))
    }

    /// Last member at or before `n`.
    pub(super) fn at_or_before(&self, n: u32) -> Option<u32> {
        (0..=n).rev().find(|n| self.contains(*n))
    }
}

/// What one field takes.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) hint: &'static str,
    pub(super) low: u32,
    pub(super) high: u32,
    /// Names of the numbers from `low` on; empty where there are none.
    pub(super) names: &'static [&'static str],
    /// Whether a range may run over the end (`SAT-MON`).
    pub(super) wraps: bool,
}

impl Field {
    pub(super) fn error(&self, text: &str) -> ScheduleError {
        ScheduleError::Field { field: self.name, text: text.to_owned(), hint: self.hint }
    }

    fn span(&self) -> u32 {
        self.high - self.low + 1
    }

    /// A number or a name, as its distance from the lowest.
    pub(super) fn number(&self, text: &str) -> Result<u32, ScheduleError> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let number = match named {
            Some(index) => u32::try_from(index).ok(),
            None if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse::<u32>().ok().and_then(|n| n.checked_sub(self.low))
            }
            None => None,
        };
        number.filter(|n| *n < self.span()).ok_or_else(|| self.error(text))
    }

    /// One element of a list: `*`, `n`, `n-m`, each with an optional `/step`.
    pub(super) fn element(&self, text: &str, into: &mut Numbers) -> Result<(), ScheduleError> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => {
                let step = step.parse().ok().filter(|step| (1..=self.span()).contains(step));
                (range, Some(step.ok_or_else(|| self.error(text))?))
            }
            None => (text, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (0, self.span() - 1),
            Some((from, to)) => (self.number(from)?, self.number(to)?),
            // `5/15` runs to the end, `5` is itself.
            None => {
                let from = self.number(range)?;
                (from, if step.is_some() { self.span() - 1 } else { from })
            }
        };
        if to < from && !self.wraps {
            return Err(self.error(text));
        }
        let length = if to < from { to + self.span() - from } else { to - from };
        for offset in (0..=length).step_by(step.unwrap_or(1) as usize) {
            into.insert((from + offset) % self.span());
        }
        Ok(())
    }

    /// A whole list without specialities.
    pub(super) fn list(&self, text: &str) -> Result<Numbers, ScheduleError> {
        let mut numbers = Numbers::default();
        for element in text.split(',') {
            self.element(element, &mut numbers)?;
        }
        Ok(numbers)
    }
}

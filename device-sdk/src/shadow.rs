//! The shadow: which desired document was applied, and whether that has been reported. Pure.

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Shadow {
    /// Number of the last desired document that was applied.
    applied: u32,
    /// Grows with everything that is to be reported.
    changes: u32,
    /// `changes` when the last report was sent.
    reported: u32,
}

impl Shadow {
    /// Whether a desired document with this number is to be applied.
    pub(crate) const fn wants(&self, version: u32) -> bool {
        version > self.applied
    }

    /// It was applied.
    pub(crate) const fn applied(&mut self, version: u32) {
        self.applied = version;
        self.changed();
    }

    /// The document has changed, or its report was lost.
    pub(crate) const fn changed(&mut self) {
        self.changes = self.changes.wrapping_add(1);
    }

    /// Number to report under, if there is something to report. It counts as sent.
    pub(crate) const fn report(&mut self) -> Option<u32> {
        if self.changes == self.reported {
            return None;
        }
        self.reported = self.changes;
        Some(self.applied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_higher_number_is_applied_and_each_change_is_reported_once() {
        let mut shadow = Shadow::default();
        assert_eq!(shadow.report(), None);
        assert!(shadow.wants(3) && !shadow.wants(0));
        shadow.applied(3);
        assert!(!shadow.wants(3) && !shadow.wants(2) && shadow.wants(4));
        assert_eq!(shadow.report(), Some(3));
        assert_eq!(shadow.report(), None);
        shadow.changed();
        assert_eq!(shadow.report(), Some(3));
    }
}

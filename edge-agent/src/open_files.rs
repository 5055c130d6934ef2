//! The process's limit of open files. Each connection is one, and the usual soft limit is 1,024.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files open besides connections: store, library, sockets of its own, pipes to a compiling child.
const OTHER_FILES: u64 = 256;

/// Raises the soft limit as far as `connections` need it and the hard limit lets it; returns the
/// connections there is room for. The log says what to do where that is fewer.
#[must_use]
pub fn raise(connections: usize) -> usize {
    let needed = (connections as u64).saturating_add(OTHER_FILES);
    let before = getrlimit(Resource::Nofile);
    let wanted = wanted(before, needed);
    let now = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => wanted.current,
        Err(error) => {
            tracing::warn!("the limit of open files stays: {error}");
            before.current
        }
    };
    let room = room(now, connections);
    if room < connections {
        tracing::warn!(
            open_files = now,
            "room for {room} connections, not {connections}; the others will wait: raise \
             `LimitNOFILE=` of the unit (or `ulimit -Hn`) to {needed}, or lower `connections` in \
             [limits]"
        );
    }
    room
}

/// `None` stands for no limit.
fn wanted(before: Rlimit, needed: u64) -> Rlimit {
    let reachable = before.maximum.map_or(needed, |hard| needed.min(hard));
    Rlimit { current: before.current.map(|soft| soft.max(reachable)), ..before }
}

fn room(open_files: Option<u64>, connections: usize) -> usize {
    let Some(files) = open_files else { return connections };
    let room = files.saturating_sub(OTHER_FILES).max(files / 2).max(1);
    usize::try_from(room).unwrap_or(usize::MAX).min(connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_what_is_needed_and_allowed() {
        let limit = |current, maximum| Rlimit { current, maximum };
        let usual = limit(Some(1_024), Some(1 << 20));
        assert_eq!(wanted(usual, 10_256).current, Some(10_256));
        assert_eq!(wanted(usual, 100).current, Some(1_024), "it is never lowered");
        assert_eq!(wanted(limit(Some(1_024), Some(4_096)), 10_256).current, Some(4_096));
        assert_eq!(wanted(limit(Some(1_024), None), 10_256).current, Some(10_256));
        assert_eq!(wanted(limit(None, None), 10_256).current, None);
        assert_eq!(wanted(usual, 10_256).maximum, Some(1 << 20), "the hard limit stays");
    }

    #[test]
    fn what_is_left_is_room_for_connections() {
        assert_eq!(room(Some(10_256), 10_000), 10_000);
        assert_eq!(room(Some(4_096), 10_000), 3_840);
        assert_eq!(room(Some(300), 10_000), 150, "of few files half");
        assert_eq!(room(Some(0), 10), 1);
        assert_eq!(room(None, 10_000), 10_000);
    }
}

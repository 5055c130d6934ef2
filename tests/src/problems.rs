//! What a judge found that must not be.

/// Ids that are listed of a problem.
const LISTED_MAX: usize = 10;

/// Notes a problem with the ids it has; without any there is none.
pub fn note(problems: &mut Vec<String>, what: &str, ids: &[String]) {
    if ids.is_empty() {
        return;
    }
    let shown = ids[..ids.len().min(LISTED_MAX)].join(", ");
    let more = if ids.len() > LISTED_MAX { ", ..." } else { "" };
    problems.push(format!("{what}: {} ({shown}{more})", ids.len()));
}

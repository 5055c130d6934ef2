//! The frame of every page, and small pieces of it.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

/// A page or a piece of one.
pub(super) struct Html(pub(super) Markup);

impl IntoResponse for Html {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], self.0.into_string()).into_response()
    }
}

/// A page without navigation.
pub(super) fn bare(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Holm" }
                link rel="stylesheet" href="/assets/style.css";
            }
            body { (body) }
        }
    }
}

/// A page: `above` stays, `fragment` is asked for at `source` again and again.
pub(super) fn framed(
    title: &str,
    operator: &str,
    above: &Markup,
    source: &str,
    fragment: &Markup,
) -> Markup {
    let link = |href: &str, text: &str| {
        html! {
            a href=(href) aria-current=[(text == title).then_some("page")] { (text) }
        }
    };
    bare(
        title,
        &html! {
            header {
                strong { "Holm" }
                nav {
                    (link("/", "Fleet"))
                    (link("/deployments", "Deployments"))
                    (link("/telemetry", "Telemetry"))
                }
                form method="post" action="/logout" {
                    span.quiet { (operator) }
                    button { "Log out" }
                }
            }
            main {
                (above)
                div #live data-source=(source) { (fragment) }
                p #stale .bad hidden { "The control plane does not answer; this is old." }
            }
            script src="/assets/app.js" {}
        },
    )
}

/// How long ago something was, for people.
pub(super) fn ago(then_ms: u64, now_ms: u64) -> String {
    match now_ms.saturating_sub(then_ms) {
        0..=1_999 => "now".to_owned(),
        ms => format!("{} ago", span(ms)),
    }
}

/// A number of things, for people.
pub(super) fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// How long something takes, for people.
pub(super) fn span(ms: u64) -> String {
    match ms / 1_000 {
        0..=1 => format!("{ms} ms"),
        seconds @ 2..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// A byte count, for people.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..=9_999 => format!("{count} B"),
        10_000..=9_999_999 => format!("{} KB", count / 1_000),
        _ => format!("{} MB", count / 1_000_000),
    }
}

/// The class that colours a progress or phase.
pub(super) fn tone(state: &str) -> &'static str {
    match state {
        "live" | "removed" => "good",
        "failed" | "taken-back" => "bad",
        "superseded" | "pending" => "quiet",
        _ => "busy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_for_people() {
        assert_eq!(ago(10_000, 10_500), "now");
        assert_eq!(ago(0, 90_000), "90 s ago");
        assert_eq!(ago(0, 600_000), "10 min ago");
        assert_eq!(ago(0, 3_600_000 * 50), "2 days ago");
        assert_eq!(ago(5, 0), "now", "a clock went back");
        assert_eq!(
            (count(1, "gateway"), count(0, "gateway")),
            ("1 gateway".into(), "0 gateways".into())
        );
        assert_eq!((bytes(512), bytes(20_480)), ("512 B".into(), "20 KB".into()));
    }
}

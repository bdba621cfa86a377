//! How the page says things: times, counts, verdicts, and text in which `names` stand out.

use askama::Template;
use askama::filters::HtmlSafe;

use crate::certificate::harmless;
use crate::service::time_text;

/// A word with a symbol and a colour; never a colour alone.
#[derive(Template, Clone, PartialEq, Eq, Debug)]
#[template(source = r#"<span class="tag {{ tone }}"><span aria-hidden="true">{{ symbol }}</span> {{ word }}</span>"#, ext = "html")]
pub(super) struct Tag {
    pub(super) tone: &'static str,
    pub(super) symbol: &'static str,
    pub(super) word: String,
}

// It escapes itself.
impl HtmlSafe for Tag {}

pub(super) const GOOD: &str = "good";
pub(super) const BAD: &str = "bad";
pub(super) const WARN: &str = "warn";
pub(super) const CALM: &str = "calm";

impl Tag {
    pub(super) fn good(word: impl Into<String>) -> Tag {
        Tag { tone: GOOD, symbol: "✓", word: word.into() }
    }

    pub(super) fn bad(word: impl Into<String>) -> Tag {
        Tag { tone: BAD, symbol: "✗", word: word.into() }
    }

    pub(super) fn warn(word: impl Into<String>) -> Tag {
        Tag { tone: WARN, symbol: "!", word: word.into() }
    }

    pub(super) fn calm(symbol: &'static str, word: impl Into<String>) -> Tag {
        Tag { tone: CALM, symbol, word: word.into() }
    }

    /// Of a verdict, as a record states it.
    pub(super) fn verdict(verdict: Option<&str>) -> Tag {
        match verdict {
            Some("conforming") => Tag::good("conforming"),
            Some("non-conforming") => Tag::bad("non-conforming"),
            Some("undecided") => Tag::warn("undecided"),
            Some(other) => Tag::calm("·", harmless(other)),
            None => Tag::calm("·", "verdict hidden"),
        }
    }
}

/// A sentence in which what stands between backticks is set as a name.
#[derive(Template, Clone, Debug)]
#[template(
    source = "{% for (name, text) in pieces %}{% if name %}<code>{{ text }}</code>{% else %}{{ text }}{% endif %}{% endfor %}",
    ext = "html"
)]
pub(super) struct Prose {
    pieces: Vec<(bool, String)>,
}

// It escapes itself.
impl HtmlSafe for Prose {}

impl Prose {
    /// Strangers' words may be in it: what controls terminals or turns the direction of text is taken out.
    pub(super) fn of(text: &str) -> Prose {
        let text = harmless(text);
        let closed = text.matches('`').count() / 2 * 2;
        let mut pieces: Vec<(bool, String)> = Vec::new();
        for (at, piece) in text.splitn(closed + 1, '`').enumerate() {
            if !piece.is_empty() {
                pieces.push((at % 2 == 1, piece.to_owned()));
            }
        }
        Prose { pieces }
    }
}

/// A sentence of what errors say: first letter up, full stop.
pub(super) fn sentence(text: &str) -> String {
    let mut text = capital(text.trim_end());
    if !text.ends_with(['.', '!', '?', '`']) {
        text.push('.');
    }
    text
}

/// First letter up.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Seconds since 1970 as people write them.
pub(super) fn moment(seconds: u64) -> String {
    readable_time(&time_text(seconds))
}

/// The day of a second since 1970.
pub(super) fn day(seconds: u64) -> String {
    time_text(seconds).chars().take(10).collect()
}

/// `2026-11-23T10:00:00.123Z` as `2026-11-23 10:00 UTC`; any other spelling as it is.
pub(super) fn readable_time(text: &str) -> String {
    match (text.get(..10), text.get(10..11), text.get(11..16), text.ends_with('Z')) {
        (Some(date), Some("T"), Some(clock), true) if lotline_schema::kind::looks_like_time(text) => format!("{date} {clock} UTC"),
        _ => harmless(text),
    }
}

/// `1,204 records`.
pub(super) fn count(number: u64, one: &str) -> String {
    format!("{} {one}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// `1,204`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn listed<S: AsRef<str>>(items: &[S]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    match &items[..] {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_out_and_everything_is_escaped() {
        let check = |text: &str, html: &str| assert_eq!(Prose::of(text).to_string(), html, "{text}");
        check("shown by `incoming`", "shown by <code>incoming</code>");
        check("`a` and `b`", "<code>a</code> and <code>b</code>");
        check("one ` alone", "one ` alone");
        check("`<script>`", "<code>&#60;script&#62;</code>");
        check("\u{202e}\u{1b}[31m", "\u{fffd}\u{fffd}[31m");
        assert!(!Tag::calm("·", "<img src=x onerror=alert(1)>").to_string().contains("<img"));
    }

    #[test]
    fn times_and_counts_read_well() {
        assert_eq!(readable_time("2026-11-23T10:00:00.123Z"), "2026-11-23 10:00 UTC");
        assert_eq!(readable_time("2017-07-11T09:16:18"), "2017-07-11T09:16:18");
        assert_eq!(readable_time("ä2026-11-23T10:00Z"), "ä2026-11-23T10:00Z");
        assert_eq!([count(1, "record"), count(0, "record"), count(1_204_000, "record")], ["1 record", "0 records", "1,204,000 records"]);
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
        assert_eq!(sentence("no such thing"), "No such thing.");
    }
}

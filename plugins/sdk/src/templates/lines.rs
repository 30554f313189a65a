//! The last touch on a rendered file: lines that were left out, settings that were written twice, and how lines end.

use std::collections::HashSet;

use regex::CaptureLocations;

use crate::spec::{Newline, Pattern, SETTING_GROUPS};

/// Stands where `none` was printed, until the line it stands on is taken out. A noncharacter, so that no text can hold it by right.
pub(super) const LEFT_OUT: char = '\u{fdd0}';
/// The first byte of it in UTF-8, which few texts have at all.
const FIRST_BYTE: u8 = 0xef;

/// Takes out the lines that printed `none`, and, where the format says how a setting is recognised, all but the last line of each.
pub(super) fn settle(text: &str, setting: Option<&Pattern>, newline: Newline) -> String {
    let left_out = |line: &str| line.as_bytes().contains(&FIRST_BYTE) && line.contains(LEFT_OUT);
    // From the end, so that the first line of a name is the one that stays.
    let lines = text.split_inclusive('\n').rev().filter(|line| !left_out(line));
    let kept: Vec<&str> = match setting {
        None => lines.collect(),
        Some(setting) => {
            let mut places = setting.0.capture_locations();
            let mut seen = HashSet::with_capacity(256);
            lines.filter(|line| name(line, setting, &mut places).is_none_or(|name| seen.insert(name))).collect()
        }
    };
    let bytes = kept.iter().map(|line| line.len() + 1).sum();
    let mut settled = String::with_capacity(bytes);
    for line in kept.into_iter().rev() {
        match line.strip_suffix('\n').filter(|_| newline == Newline::Crlf) {
            Some(line) => settled.extend([line, "\r\n"]),
            None => settled.push_str(line),
        }
    }
    settled
}

/// What the groups of the pattern hold, without blanks at its end: together the setting's name.
type Name<'a> = [Option<&'a str>; SETTING_GROUPS];

fn name<'a>(line: &'a str, setting: &Pattern, places: &mut CaptureLocations) -> Option<Name<'a>> {
    setting.0.captures_read(places, line)?;
    Some(std::array::from_fn(|group| places.get(group + 1).map(|(start, end)| line[start..end].trim_end_matches(' '))))
}

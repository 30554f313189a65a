//! The last touch on a rendered file: lines that were left out, and settings that were written twice.

use std::collections::HashMap;

use regex::CaptureLocations;

use crate::spec::Pattern;

/// Stands where `none` was printed, until the line it stands on is taken out. A noncharacter, so that no text can hold it by right.
pub(super) const LEFT_OUT: char = '\u{fdd0}';

/// Takes out the lines that printed `none`, and, where the format says how a setting is recognised, all but the last line of each.
pub(super) fn settle(text: &str, setting: Option<&Pattern>) -> String {
    let kept: Vec<&str> = text.split_inclusive('\n').filter(|line| !line.contains(LEFT_OUT)).collect();
    let Some(setting) = setting else {
        return kept.concat();
    };
    let mut places = setting.0.capture_locations();
    let names: Vec<Option<Name<'_>>> = kept.iter().map(|line| name(line, setting, &mut places)).collect();
    let last: HashMap<&Name<'_>, usize> =
        names.iter().enumerate().filter_map(|(index, name)| Some((name.as_ref()?, index))).collect();
    kept.iter()
        .zip(&names)
        .enumerate()
        .filter(|(index, (_, name))| name.as_ref().is_none_or(|name| last[name] == *index))
        .map(|(_, (line, _))| *line)
        .collect()
}

/// What the groups of the pattern hold: together the setting's name.
type Name<'a> = Vec<Option<&'a str>>;

fn name<'a>(line: &'a str, setting: &Pattern, places: &mut CaptureLocations) -> Option<Name<'a>> {
    setting.0.captures_read(places, line)?;
    Some((1..places.len()).map(|group| places.get(group).map(|(start, end)| &line[start..end])).collect())
}

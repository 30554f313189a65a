//! The last touch on a rendered file: lines that were left out, and settings that were written twice.

use std::collections::HashMap;

use crate::spec::Pattern;

/// Stands where `none` was printed, until the line it stands on is taken out. A noncharacter, so that no text can hold it by right.
pub(super) const LEFT_OUT: char = '\u{fdd0}';

/// Takes out the lines that printed `none`, and, where the format says how a setting is recognised, all but the last line of each.
pub(super) fn settle(text: &str, setting: Option<&Pattern>) -> String {
    let kept: Vec<&str> = text.split_inclusive('\n').filter(|line| !line.contains(LEFT_OUT)).collect();
    let Some(setting) = setting else {
        return kept.concat();
    };
    let names: Vec<Option<String>> = kept
        .iter()
        .map(|line| {
            let found = setting.0.captures(line)?;
            let groups: Vec<&str> =
                found.iter().skip(1).map(|group| group.map_or("", |group| group.as_str())).collect();
            Some(groups.join("\0"))
        })
        .collect();
    let last: HashMap<&str, usize> =
        names.iter().enumerate().filter_map(|(index, name)| Some((name.as_deref()?, index))).collect();
    kept.iter()
        .enumerate()
        .filter(|(index, _)| names[*index].as_deref().is_none_or(|name| last[name] == *index))
        .map(|(_, line)| *line)
        .collect()
}

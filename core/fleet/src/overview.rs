//! The profiles as people look at them: which stands on which, whom each chooses, and where it is written.

use crate::{document::Selector, fleet::Fleet};

/// A profile in service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileView<'a> {
    pub name: &'a str,
    pub file: &'a str,
    pub line: u32,
    /// The profile that it stands on.
    pub extends: Option<&'a str>,
    pub site: Option<&'a str>,
    /// What it asks of the phones that it chooses by itself: `vendor acme, model D7*`.
    pub selector: Option<String>,
    /// What it sets itself, as paths of two parts at most.
    pub sets: Vec<String>,
}

impl Fleet {
    /// Every profile in service, by name.
    pub fn profile_views(&self) -> impl Iterator<Item = ProfileView<'_>> {
        self.index.profiles.iter().map(|(name, profile)| {
            let entries = profile.layer.settings.entries();
            let sets = entries.iter().flat_map(|(key, node)| match node.entries() {
                [] => vec![key.as_str().to_owned()],
                parts => parts.iter().map(|(part, _)| format!("{}.{}", key.as_str(), part.as_str())).collect(),
            });
            ProfileView {
                name,
                file: &profile.layer.file,
                line: profile.layer.line,
                extends: profile.extends.as_ref().map(|base| &*base.name),
                site: profile.site.as_ref().map(|site| &*site.name),
                selector: profile.selector.as_ref().map(Selector::in_words),
                sets: sets.collect(),
            }
        })
    }

    /// Whether any profile chooses phones by itself.
    pub fn has_choosing_profiles(&self) -> bool {
        !self.index.choosing.is_empty()
    }
}

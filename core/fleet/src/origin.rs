//! Where each value of a resolved phone comes from. `explain` prints it; a complaint about a field finds its line by it.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use serde::Serialize;

use crate::refer::Refer;

/// A layer that had a say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerRef {
    /// `defaults`, `site berlin`, `network 10.20.0.0/16`, `profile office`, `device 00:04:13:aa:bb:cc`, …
    pub name: String,
    pub file: Arc<str>,
    pub line: u32,
}

/// Where one value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// None: no file says it, see `reason`.
    pub file: Option<Arc<str>>,
    pub line: u32,
    pub column: u32,
    /// As in [`LayerRef::name`], or `default`.
    pub layer: String,
    /// Why a default is what it is.
    pub reason: Option<Cow<'static, str>>,
    /// What stands there in the place of a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refers_to: Option<String>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, &self.reason) {
            (Some(file), _) => {
                write!(f, "{file}:{}:{} ({})", self.line, self.column, self.layer)?;
                self.refers_to.iter().try_for_each(|refers| write!(f, ", {refers}"))
            }
            (None, Some(reason)) => write!(f, "{}: {reason}", self.layer),
            (None, None) => f.write_str(&self.layer),
        }
    }
}

/// The origins of all values of one phone, by dotted path counted from 0: `lines.0.password`, `vendor.acme.backlight`.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    pub(crate) layers: Vec<LayerRef>,
    pub(crate) root: Branch,
    pub(crate) filled: BTreeMap<String, Cow<'static, str>>,
}

/// A place in a file, the layer by its number.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct At {
    pub(crate) layer: u16,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Branch {
    pub(crate) at: At,
    pub(crate) below: Below,
}

#[derive(Clone, Debug, Default)]
pub(crate) enum Below {
    #[default]
    Nothing,
    Refers(Arc<Refer>),
    Map(BTreeMap<Box<str>, Branch>),
    List(Vec<Branch>),
}

impl Origins {
    /// The origin of the value at `path`, or of the nearest section around it that somebody wrote.
    pub fn of(&self, path: &str) -> Option<Origin> {
        if let Some(reason) = self.filled.get(path) {
            return Some(default(reason.clone()));
        }
        let (branch, depth) = self.nearest(path);
        (depth > 0).then(|| self.origin(branch))
    }

    /// Every single value with its origin, in the order of the paths.
    pub fn iter(&self) -> impl Iterator<Item = (String, Origin)> {
        fn walk(origins: &Origins, branch: &Branch, path: String, all: &mut BTreeMap<String, Origin>) {
            let under =
                |step: &dyn fmt::Display| if path.is_empty() { step.to_string() } else { format!("{path}.{step}") };
            match &branch.below {
                Below::Nothing if path.is_empty() => {}
                Below::Nothing | Below::Refers(_) => drop(all.insert(path, origins.origin(branch))),
                Below::Map(fields) => fields.iter().for_each(|(name, field)| walk(origins, field, under(name), all)),
                Below::List(items) => {
                    items.iter().enumerate().for_each(|(index, item)| walk(origins, item, under(&index), all))
                }
            }
        }
        let mut all = BTreeMap::new();
        walk(self, &self.root, String::new(), &mut all);
        all.extend(self.filled.iter().map(|(path, reason)| (path.clone(), default(reason.clone()))));
        all.into_iter()
    }

    pub(crate) fn fill(&mut self, path: String, reason: impl Into<Cow<'static, str>>) {
        self.filled.insert(path, reason.into());
    }

    /// What stands in the place of passwords, by path.
    pub fn references(&self) -> impl Iterator<Item = (String, &Refer)> {
        fn walk<'a>(branch: &'a Branch, path: &str, all: &mut Vec<(String, &'a Refer)>) {
            let under =
                |step: &dyn fmt::Display| if path.is_empty() { step.to_string() } else { format!("{path}.{step}") };
            match &branch.below {
                Below::Nothing => {}
                Below::Refers(refer) => all.push((path.to_owned(), refer)),
                Below::Map(fields) => fields.iter().for_each(|(name, field)| walk(field, &under(name), all)),
                Below::List(items) => {
                    items.iter().enumerate().for_each(|(index, item)| walk(item, &under(&index), all))
                }
            }
        }
        let mut all = Vec::new();
        walk(&self.root, "", &mut all);
        all.into_iter()
    }

    fn origin(&self, branch: &Branch) -> Origin {
        let at = branch.at;
        let refers_to = match &branch.below {
            Below::Refers(refer) => Some(refer.to_string()),
            _ => None,
        };
        let layer = self.layers.get(usize::from(at.layer));
        Origin {
            file: layer.map(|layer| layer.file.clone()),
            line: at.line,
            column: at.column,
            layer: layer.map_or_else(|| "default".to_owned(), |layer| layer.name.clone()),
            reason: None,
            refers_to,
        }
    }

    /// The deepest branch on the way to `path`, and how much of the path it covers. Names may hold dots (a vendor's own do), so the
    /// longest name that fits is taken.
    fn nearest(&self, path: &str) -> (&Branch, usize) {
        let mut branch = &self.root;
        let mut depth = 0;
        loop {
            let rest = path[depth..].strip_prefix('.').unwrap_or(&path[depth..]);
            let start = path.len() - rest.len();
            let fits =
                |name: &str| rest.strip_prefix(name).is_some_and(|after| after.is_empty() || after.starts_with('.'));
            let next = match &branch.below {
                Below::Map(fields) if !rest.is_empty() => fields
                    .iter()
                    .filter(|(name, _)| fits(name))
                    .max_by_key(|(name, _)| name.len())
                    .map(|(name, field)| (name.len(), field)),
                Below::List(items) => {
                    let index = rest.split('.').next().unwrap_or_default();
                    index.parse::<usize>().ok().and_then(|number| items.get(number)).map(|item| (index.len(), item))
                }
                _ => None,
            };
            let Some((length, deeper)) = next else { return (branch, depth) };
            branch = deeper;
            depth = start + length;
        }
    }
}

fn default(reason: Cow<'static, str>) -> Origin {
    Origin { file: None, line: 0, column: 0, layer: "default".into(), reason: Some(reason), refers_to: None }
}

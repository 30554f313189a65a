//! For plugin authors: render in a test what the host would render.

use std::{path::Path, sync::Arc};

use crate::{
    model::Phone,
    plugin::{Plugin, PluginError, RenderedFile, offers},
    spec::path_name,
    templates::{Source, Templates},
};

/// Compiles the templates below `directory`; panics with the list of what does not compile.
pub fn templates(plugin: &dyn Plugin, directory: &Path) -> Arc<Templates> {
    let mut sources = Vec::new();
    collect(directory, "", &mut sources);
    compile(plugin, &sources)
}

/// The same for a vendor that is `like` another, whose templates are below `base`: they answer where `directory` has none of their name,
/// and as `@vendor/NAME` in any case.
pub fn templates_like(plugin: &dyn Plugin, directory: &Path, base: &Path) -> Arc<Templates> {
    let like = plugin.spec().like.as_deref().expect("the vendor is like another");
    let (mut sources, mut theirs) = (Vec::new(), Vec::new());
    collect(directory, "", &mut sources);
    collect(base, "", &mut theirs);
    for source in theirs {
        if !sources.iter().any(|own: &Source| own.name == source.name) {
            sources.push(source.clone());
        }
        sources.push(Source { name: format!("@{}/{}", path_name(like), source.name), ..source });
    }
    compile(plugin, &sources)
}

fn compile(plugin: &dyn Plugin, sources: &[Source]) -> Arc<Templates> {
    match Templates::compile(plugin.spec(), sources) {
        Ok(templates) => Arc::new(templates),
        Err(failures) => panic!("{}", failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

fn collect(directory: &Path, prefix: &str, sources: &mut Vec<Source>) {
    let mut entries: Vec<_> = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", directory.display()))
        .map(|entry| entry.expect("a readable directory"))
        .collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{name}/"), sources);
        } else if name.ends_with(".j2") {
            let text = std::fs::read_to_string(entry.path()).expect("a template is UTF-8 text");
            sources.push(Source { shown: entry.path().display().to_string(), name, text, is_override: false });
        }
    }
}

/// Renders the file that `path` names for `phone`, as the host would: the first of the vendor's files that fits and is offered.
pub fn render(
    plugin: &dyn Plugin,
    templates: &Arc<Templates>,
    path: &str,
    phone: &Phone,
) -> Result<RenderedFile, PluginError> {
    let (file, _) = plugin
        .spec()
        .find(path)
        .find(|(file, _)| offers(file, phone))
        .ok_or_else(|| PluginError::Other(format!("no file \"{path}\" is offered to this phone")))?;
    let bound = templates.bind(file, phone);
    match plugin.render(file, phone, &bound)? {
        Some(rendered) => Ok(rendered),
        None => bound.finish(&plugin.variables(file, phone)?),
    }
}

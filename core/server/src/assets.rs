//! Files served as they are: firmware, ring tones, wallpapers. Confined to their directory, whatever the name says.

use std::{fs, io, path::Path, sync::Arc};

use crate::request::Asset;

/// The file that `name` means below `root`, or nothing. A symbolic link may point anywhere inside the directory and nowhere outside.
pub(crate) fn find(root: &Path, name: &str) -> io::Result<Option<Asset>> {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.contains(['\\', '\0'])
            && !part.chars().any(char::is_control)
    };
    if name.len() > 1024 || !name.split('/').all(plain) {
        return Ok(None);
    }
    let not_there = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::NotFound
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::InvalidFilename
        )
    };
    let (root, path) = match (root.canonicalize(), root.join(name).canonicalize()) {
        (Ok(root), Ok(path)) => (root, path),
        (Err(error), _) | (_, Err(error)) if not_there(&error) => return Ok(None),
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    if !path.starts_with(&root) {
        tracing::warn!(file = name, "a link in {} points outside of it; it is not served", root.display());
        return Ok(None);
    }
    let metadata = fs::metadata(&path)?;
    if !metadata.is_file() {
        return Ok(None);
    }
    Ok(Some(Asset { content_type: content_type(&path), len: metadata.len(), modified: metadata.modified()?, path }))
}

fn content_type(path: &Path) -> Arc<str> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    match extension.as_str() {
        "xml" => "text/xml",
        "txt" | "cfg" | "conf" => "text/plain; charset=utf-8",
        "htm" | "html" => "text/html",
        "json" => "application/json",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "bmp" => "image/bmp",
        "gif" => "image/gif",
        "wav" => "audio/wav",
        "mp3" => "audio/mpeg",
        "pem" => "application/x-pem-file",
        "crt" | "cer" | "der" => "application/x-x509-ca-cert",
        _ => "application/octet-stream",
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_directory_is_ever_found() {
        let root = tempfile::tempdir().unwrap();
        let assets = root.path().join("assets");
        fs::create_dir_all(assets.join("ring")).unwrap();
        fs::write(assets.join("ring/a.wav"), b"RIFF").unwrap();
        fs::write(assets.join(".hidden"), b"x").unwrap();
        fs::write(root.path().join("secret"), b"x").unwrap();
        std::os::unix::fs::symlink(root.path().join("secret"), assets.join("link")).unwrap();
        std::os::unix::fs::symlink("ring/a.wav", assets.join("inside")).unwrap();
        let found = find(&assets, "ring/a.wav").unwrap().unwrap();
        assert_eq!((found.len, &*found.content_type), (4, "audio/wav"));
        assert!(find(&assets, "inside").unwrap().is_some());
        let long = "a/".repeat(600);
        for name in [
            "../secret",
            "ring/../../secret",
            "link",
            ".hidden",
            "/etc/passwd",
            "ring",
            "",
            "ring//a.wav",
            "a\0b",
            "a\\b",
            &long,
            "ring/a.wav/x",
        ] {
            assert!(find(&assets, name).unwrap().is_none(), "{name}");
        }
    }
}

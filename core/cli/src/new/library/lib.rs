//! What data cannot say of these phones: values that have to be computed. All else is in `vendor.yaml` and the templates.
//!
//! No I/O: no socket, file, thread or clock. The same question gets the same answer.

use provost_plugin::{Phone, Plugin, PluginError, Spec, Variables, export_plugin, spec::FileSpec};

export_plugin!(Vendor, include_str!("../vendor.yaml"));

#[derive(Debug)]
pub struct Vendor {
    spec: Spec,
}

impl From<Spec> for Vendor {
    fn from(spec: Spec) -> Vendor {
        Vendor { spec }
    }
}

impl Plugin for Vendor {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn variables(&self, _file: &FileSpec, phone: &Phone) -> Result<Variables, PluginError> {
        let in_use = phone.settings.lines.iter().filter(|line| line.enabled == Some(true)).count();
        let mut variables = Variables::new();
        variables.insert("accounts_in_use".into(), in_use.into());
        Ok(variables)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use provost_plugin::{Phone, Spec, testing};
    use serde_json::json;

    use super::Vendor;

    #[test]
    fn the_file_counts_the_accounts_in_use() {
        let plugin = Vendor::from(Spec::read(include_str!("../vendor.yaml")).unwrap());
        let templates = testing::templates(&plugin, &Path::new(env!("CARGO_MANIFEST_DIR")).join("templates"));
        let phone: Phone = serde_json::from_value(json!({
            "mac": "@MAC@",
            "vendor": "@ID@",
            "base_url": "http://192.0.2.1:8080/",
            "lines": [{ "position": 1, "enabled": true }, { "position": 2, "enabled": false }],
        }))
        .unwrap();
        let file = testing::render(&plugin, &templates, "@BARE@.cfg", &phone).unwrap();
        let text = String::from_utf8(file.body).unwrap();
        assert!(text.contains("accounts.in_use = 1\n"), "{text}");
    }
}

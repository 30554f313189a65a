//! A plugin that behaves badly when it is asked to: by the model that a phone names. What C can do worse is in `fixtures/nonsense.c`.

use std::{thread, time::Duration};

use provost_plugin::{
    Phone, Plugin, PluginError, Render, RenderedFile, Spec, Variables, export_plugin, spec::FileSpec,
};
use serde_json::Value;

/// In every polite answer. A test writes other bytes of the same length over it in the library, and has a new version.
static MANNERS: &str = "the manners of the first version of this library, as they were brought up";

#[derive(Debug)]
struct Rude {
    spec: Spec,
}

impl From<Spec> for Rude {
    fn from(spec: Spec) -> Rude {
        Rude { spec }
    }
}

impl Plugin for Rude {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn variables(&self, _file: &FileSpec, _phone: &Phone) -> Result<Variables, PluginError> {
        Ok(Variables::from_iter([("manners".into(), Value::from(std::hint::black_box(MANNERS)))]))
    }

    fn render(
        &self,
        _file: &FileSpec,
        phone: &Phone,
        templates: &dyn Render,
    ) -> Result<Option<RenderedFile>, PluginError> {
        match phone.model.as_deref().unwrap_or("Polite") {
            "Panic" => panic!("the plugin was asked to panic"),
            "Stall" => loop {
                thread::sleep(Duration::from_secs(1));
            },
            "Late" => thread::sleep(Duration::from_secs(3)),
            "Flood" => return Ok(Some(RenderedFile { body: vec![b'x'; 40 << 20], content_type: "text/plain".into() })),
            "Refuse" => return Err(PluginError::Other("the plugin was asked to refuse".into())),
            "Exhaust" => return Err(PluginError::Other(exhaust(templates))),
            _ => {}
        }
        Ok(None)
    }
}

/// Asks the engine for what there is not, and for too much.
fn exhaust(templates: &dyn Render) -> String {
    let nothing = templates.render("nothing.cfg.j2", &Variables::new());
    format!("{nothing:?}")
}

export_plugin!(Rude, include_str!("../vendor.yaml"));

//! What the families of models differ in, beyond the tables of `vendor.yaml`: which file they read and what they can do with it.

use provost_plugin::{
    model::{Codec, Phone},
    spec::Model,
};

/// How the P values of accounts are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// The rule of position.
    Desk,
    /// The same, with fewer features: GXP16xx.
    SmallDesk,
    /// Ports of an analogue adapter.
    Adapter,
}

#[derive(Clone, Debug)]
pub(crate) struct Family {
    pub(crate) id: String,
    /// Configured by alias (`config version="2"`) and not by P value.
    pub(crate) aliases: bool,
    pub(crate) numbering: Numbering,
    /// Preferred codecs that an account has room for.
    pub(crate) codec_choices: u16,
}

impl Family {
    pub(crate) fn of(phone: &Phone) -> Family {
        let model: &Model = &phone.capabilities;
        // A phone whose model nobody told gets P values: every one of the vendor's phones reads them.
        let id = model.family.clone().unwrap_or_default();
        let numbering = match id.as_str() {
            "ht" => Numbering::Adapter,
            "gxp16" => Numbering::SmallDesk,
            _ => Numbering::Desk,
        };
        Family {
            aliases: matches!(id.as_str(), "grp26" | "ghp6"),
            codec_choices: if numbering == Numbering::SmallDesk { 7 } else { 8 },
            numbering,
            id,
        }
    }

    /// Whether there is a screen with keys around it.
    pub(crate) fn is_adapter(&self) -> bool {
        self.numbering == Numbering::Adapter
    }

    pub(crate) fn can_play(&self, codec: Codec) -> bool {
        match codec {
            Codec::Gsm => false,
            Codec::Opus => self.numbering != Numbering::SmallDesk,
            _ => true,
        }
    }

    /// The codecs' numbers, or names; the payload types that stand for iLBC and Opus are not the same everywhere.
    pub(crate) fn codec_table(&self) -> &'static str {
        match self.id.as_str() {
            _ if self.aliases => "codec_alias",
            "ht" => "codec_ht",
            "gxp17" => "codec_gxp17",
            _ => "codec",
        }
    }

    /// Whether the phone's web pages can be told to be served in this way.
    pub(crate) fn has_web_access(&self, word: &str) -> bool {
        match self.id.as_str() {
            "gxp16" => matches!(word, "http" | "https"),
            "ht" => word != "both",
            _ => true,
        }
    }
}

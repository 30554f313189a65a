//! A phone as the engine's values.
//!
//! The engine has a road from serde of its own. It keeps whatever has flattened fields, which phones and lines have, in a tree that
//! compares values of any kind, and building that took longer than rendering a short file. Here every struct and map is a list: written
//! at one go, and read faster than a tree of so few.

use std::{fmt::Display, sync::Arc};

use minijinja::{
    Value,
    value::{Enumerator, Object, Serde},
};
use serde::{
    Serialize, Serializer,
    ser::{self, Impossible},
};

/// The same values as the engine would make. What the model has no kind of (bytes, tuples, variants with content) is left to it.
pub(super) fn value(of: &impl Serialize) -> Value {
    of.serialize(Build).unwrap_or_else(|Stranger| Value::from(Serde(of)))
}

/// Values by name.
#[derive(Debug, Default)]
pub(super) struct Fields {
    values: Vec<(Name, Value)>,
    /// The names of a map, one behind the other.
    names: String,
    /// Whoever goes through a map finds it in the order of its names, and a struct as it is declared.
    is_map: bool,
}

#[derive(Clone, Copy, Debug)]
enum Name {
    Known(&'static str),
    /// From here to there in `names`.
    Told(u32, u32),
}

impl Fields {
    fn with_capacity(fields: usize) -> Fields {
        Fields { values: Vec::with_capacity(fields), ..Fields::default() }
    }

    pub(super) fn push(&mut self, name: &'static str, value: Value) {
        self.values.push((Name::Known(name), value));
    }

    pub(super) fn push_told(&mut self, name: &str, value: Value) {
        let begin = self.names.len() as u32;
        self.names.push_str(name);
        self.values.push((Name::Told(begin, self.names.len() as u32), value));
    }

    fn text(&self, name: Name) -> &str {
        match name {
            Name::Known(name) => name,
            Name::Told(begin, end) => &self.names[begin as usize..end as usize],
        }
    }
}

impl Object for Fields {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.values.iter().find(|(name, _)| self.text(*name) == key).map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let mut names: Vec<&str> = self.values.iter().map(|(name, _)| self.text(*name)).collect();
        if self.is_map {
            names.sort_unstable();
        }
        Enumerator::Values(names.into_iter().map(Value::from).collect())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.values.len())
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Value {
        Value::from_object(fields)
    }
}

/// Something that is left to the engine.
#[derive(Debug, thiserror::Error)]
#[error("of no kind that the model has")]
pub(super) struct Stranger;

impl ser::Error for Stranger {
    fn custom<T: Display>(_: T) -> Stranger {
        Stranger
    }
}

struct Build;

macro_rules! scalars {
    ($($serialize:ident: $kind:ty),*) => {
        $(fn $serialize(self, value: $kind) -> Result<Value, Stranger> {
            Ok(value.into())
        })*
    };
}

impl Serializer for Build {
    type Ok = Value;
    type Error = Stranger;
    type SerializeSeq = List;
    type SerializeMap = Entries;
    type SerializeStruct = Fields;
    type SerializeTuple = Impossible<Value, Stranger>;
    type SerializeTupleStruct = Impossible<Value, Stranger>;
    type SerializeTupleVariant = Impossible<Value, Stranger>;
    type SerializeStructVariant = Impossible<Value, Stranger>;

    scalars! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_u8: u8,
        serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_f32: f32, serialize_f64: f64, serialize_str: &str
    }

    fn serialize_char(self, value: char) -> Result<Value, Stranger> {
        Ok(value.into())
    }

    fn serialize_none(self) -> Result<Value, Stranger> {
        Ok(().into())
    }

    fn serialize_unit(self) -> Result<Value, Stranger> {
        Ok(().into())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Stranger> {
        value.serialize(Build)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Value, Stranger> {
        value.serialize(Build)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, Stranger> {
        Ok(().into())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Value, Stranger> {
        Ok(variant.into())
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<List, Stranger> {
        Ok(List(Vec::with_capacity(len.unwrap_or(0))))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Entries, Stranger> {
        // Flattened fields do not tell how many they are: as many as a phone or a line has.
        let fields = len.unwrap_or(64);
        let names = String::with_capacity(fields * 12);
        let fields = Fields { names, is_map: true, ..Fields::with_capacity(fields) };
        Ok(Entries { fields, name: None })
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Fields, Stranger> {
        Ok(Fields::with_capacity(len))
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<Value, Stranger> {
        Err(Stranger)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Value, Stranger> {
        Err(Stranger)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Stranger> {
        Err(Stranger)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Stranger> {
        Err(Stranger)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Stranger> {
        Err(Stranger)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Stranger> {
        Err(Stranger)
    }
}

struct List(Vec<Value>);

impl ser::SerializeSeq for List {
    type Ok = Value;
    type Error = Stranger;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stranger> {
        self.0.push(value.serialize(Build)?);
        Ok(())
    }

    fn end(self) -> Result<Value, Stranger> {
        Ok(self.0.into())
    }
}

impl ser::SerializeStruct for Fields {
    type Ok = Value;
    type Error = Stranger;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Stranger> {
        self.push(name, value.serialize(Build)?);
        Ok(())
    }

    fn end(self) -> Result<Value, Stranger> {
        Ok(self.into())
    }
}

/// A map, or a struct with flattened fields.
struct Entries {
    fields: Fields,
    name: Option<Value>,
}

impl ser::SerializeMap for Entries {
    type Ok = Value;
    type Error = Stranger;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, name: &T) -> Result<(), Stranger> {
        self.name = Some(name.serialize(Build)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stranger> {
        let name = self.name.take().ok_or(Stranger)?;
        self.fields.push_told(name.as_str().ok_or(Stranger)?, value.serialize(Build)?);
        Ok(())
    }

    fn end(self) -> Result<Value, Stranger> {
        Ok(self.fields.into())
    }
}

#[cfg(test)]
mod tests {
    use minijinja::value::ValueKind;

    use super::*;
    use crate::model::{Phone, Secret};

    /// What a template can see of a value, in words.
    fn seen(value: &Value) -> String {
        if !matches!(value.kind(), ValueKind::Map | ValueKind::Seq) {
            return format!("{value} {:?}", value.kind());
        }
        let items = value.try_iter().unwrap().map(|item| match value.get_attr(item.as_str().unwrap_or_default()) {
            Ok(field) if value.kind() == ValueKind::Map => format!("{item}({})", seen(&field)),
            _ => format!("[{}]", seen(&item)),
        });
        items.collect()
    }

    #[test]
    fn a_template_sees_what_the_engine_would_have_shown_it() {
        let phone: Phone = serde_json::from_value(serde_json::json!({
            "mac": "02005e000001", "vendor": "acme", "model": "X1", "base_url": "http://192.0.2.1/",
            "raw": { "b": 1, "a": "two", "c": 1.5, "d": true }, "switches": {},
            "zone": { "name": "Europe/Berlin", "utc_offset": -3600, "abbreviation": "CET", "dst": null, "posix": "CET-1" },
            "lines": [{ "position": 1, "password": "s3<&>", "codecs": ["pcma", "g722"], "expires": 3600, "forward": { "busy": { "target": "200" } } }],
            "keys": [{ "kind": "blf", "value": "a value that is longer than what fits into the engine's small text" }],
            "time": { "ntp": ["192.0.2.123"], "hours": "24h" },
        }))
        .unwrap();
        let (ours, theirs) = Secret::exposed(|| (value(&phone), Value::from(Serde(&phone))));
        assert!(seen(&ours).contains("s3<&>") && seen(&ours).contains("firmware(None None)"), "{}", seen(&ours));
        assert_eq!(seen(&ours), seen(&theirs));
        assert!(ours.get_attr("lnies").unwrap().is_undefined());
        assert!(!seen(&value(&phone)).contains("s3<&>"), "a password shows itself only inside `exposed`");
    }

    #[test]
    fn what_the_model_has_no_kind_of_is_left_to_the_engine() {
        for stranger in [value(&(1, "two")), value(&Ok::<u8, u8>(3)), value(&vec![(1, 2)])] {
            assert!(stranger.try_iter().is_ok(), "{stranger:?}");
        }
    }
}

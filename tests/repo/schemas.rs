//! Schemas judge right, and what is shipped passes them. The judge is python-jsonschema, which shares nothing with what wrote them.

use std::{fs, path::Path, process::Command};

use provost_tests::{specs, tools};
use serde_json::{Value, json};

use crate::{files, provost, read};

/// A schema as `provost schema` prints it.
fn schema(of: &str) -> Value {
    let (ok, printed) = provost(&["schema", of]);
    assert!(ok, "{printed}");
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("provost schema {of} prints no JSON: {error}"))
}

/// What the judge has against these documents. It also judges the schema itself.
fn judge(schema: &Value, documents: &[(String, Value)]) -> Result<(), String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, value: &Value| {
        let path = directory.path().join(name);
        fs::write(&path, value.to_string()).expect("a temporary directory");
        path
    };
    let schema = write("schema", schema);
    let mut judge = Command::new(tools::require("jsonschema"));
    for (name, document) in documents {
        judge.arg("-i").arg(write(&name.replace('/', "%"), document));
    }
    tools::feed(judge.arg(&schema), b"").map(drop)
}

/// A YAML file as JSON.
fn document(path: &str) -> (String, Value) {
    let document = serde_yaml::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    (path.to_owned(), document)
}

/// That all of these pass, and that each of the bad ones is refused.
fn assert_judged(of: &str, good: &[(String, Value)], bad: &[Value]) {
    let schema = schema(of);
    assert!(
        schema["$schema"].as_str().is_some_and(|dialect| dialect.contains("json-schema.org")),
        "{of} does not say its dialect"
    );
    assert!(!good.is_empty());
    judge(&schema, good).unwrap_or_else(|error| panic!("{of}: {error}"));
    for document in bad {
        let named = [("bad".to_owned(), document.clone())];
        assert!(judge(&schema, &named).is_err(), "the schema of {of} lets {document} pass");
    }
}

#[test]
fn profiles_pass_their_schema_and_mistakes_do_not() {
    let profiles = |path: &String| path.starts_with("profiles/") || path.starts_with("tests/golden/");
    let yaml = |path: &String| Path::new(path).extension().is_some_and(|extension| extension == "yaml");
    let shipped: Vec<_> =
        files().iter().filter(|path| profiles(path) && yaml(path)).map(|path| document(path)).collect();
    assert!(shipped.len() > 15, "only {} profile files", shipped.len());
    let device = |settings: Value| json!({ "devices": { "00:04:13:00:00:01": settings } });
    let bad = [
        json!({ "defualts": {} }),
        json!({ "defaults": { "sip": { "sever": "pbx" } } }),
        json!({ "defaults": { "sip": { "transport": "sctp" } } }),
        json!({ "defaults": { "vlan": { "voice": { "id": 4095 } } } }),
        device(json!({ "lines": [{ "numbr": "1" }] })),
        device(json!({ "keys": [{ "kind": "dance" }] })),
        device(json!({ "keys": [{ "value": "1" }] })),
    ];
    assert_judged("profile", &shipped, &bad);
}

#[test]
fn vendor_files_pass_their_schema_and_mistakes_do_not() {
    let vendors: Vec<_> =
        specs().iter().map(|(folder, _)| document(&format!("plugins/{folder}/vendor.yaml"))).collect();
    let mut unknown = vendors[0].1.clone();
    unknown["vender"] = json!("Acme");
    let mut nameless = vendors[0].1.clone();
    nameless.as_object_mut().expect("a mapping").remove("vendor");
    let mut escaping = vendors[0].1.clone();
    escaping["formats"] = json!({ "cfg": { "escape": "hope", "content_type": "text/plain" } });
    assert_judged("vendor", &vendors, &[unknown, nameless, escaping]);
}

#[test]
fn lists_and_manifests_have_schemas_that_know_mistakes() {
    let named = |documents: &[Value]| -> Vec<(String, Value)> {
        documents.iter().enumerate().map(|(number, document)| (format!("good {number}"), document.clone())).collect()
    };
    let anna = json!({ "name": "Anna", "numbers": [{ "number": 101 }, { "kind": "mobile", "number": "+49 151 1" }] });
    let bad = [
        json!({ "entrys": [] }),
        json!({ "entries": [{ "nmae": "A" }] }),
        json!({ "entries": [{ "numbers": [{ "kind": "fax", "number": 1 }] }] }),
        json!({ "entries": [{ "numbers": [{ "kind": "work" }] }] }),
    ];
    assert_judged("phonebook", &named(&[json!({}), json!({ "title": "All", "entries": [anna] })]), &bad);
    let entry = json!({ "vendor": "acme", "models": ["X*"], "version": 1.10, "file": "x.bin" });
    let mut hardware = entry.clone();
    hardware["hardware"] = json!("V1*");
    let mut nameless = entry.clone();
    nameless.as_object_mut().expect("a mapping").remove("file");
    let bad = [json!({ "entries": [nameless] }), json!({ "files": [] }), json!({ "entries": { "x": 1 } })];
    assert_judged("firmware", &named(&[json!({}), json!({ "entries": [entry, hardware] })]), &bad);
}

#[test]
fn settings_have_a_schema_that_knows_mistakes() {
    let good = [
        json!({}),
        json!({ "pnp": { "interfaces": ["eth0"], "listen": "raw" }, "http": { "port": 80 }, "public_url": "https://prov.example.net/" }),
        json!({ "networks": [{ "cidr": "10.0.0.0/8", "public_url": "http://10.0.0.1/" }], "forward": [{ "url": "http://pbx/{mac}.cfg" }] }),
    ];
    let good: Vec<_> =
        good.into_iter().enumerate().map(|(number, document)| (format!("good {number}"), document)).collect();
    let bad = [
        json!({ "htp": {} }),
        json!({ "http": { "port": "eighty" } }),
        json!({ "pnp": { "listen": "loud" } }),
        json!({ "forward": [{}] }),
    ];
    assert_judged("settings", &good, &bad);
}

//! What a plugin's author is told: each thing at its file and line, and nothing about what is in order.

use std::fs;

use provost_host::{Limits, Places, Review, Shelf, review};

const VENDOR_YAML: &str = "\
vendor: Acme
announces: [acme]
ouis: ['02ACDE']
models:
  A1: { lines: 1, columns: { file: a1, colour: red } }
  B2: { lines: 2, family: b, columns: { file: b2 } }
files:
  - { name: 'acme-{mac}.cfg', template: device.cfg.j2 }
  - { name: '{column.file}.cfg', template: model.cfg.j2, kind: common }
formats:
  cfg: { escape: line, content_type: text/plain }
announce: { url: '{base}acme-{mac}.cfg' }
tables:
  transport: { udp: 0, tcp: 1, tls: 2 }
not_yet: [SECTIONS]
";

const DEVICE: &str =
    "{% include \"parts/\" ~ \"line.cfg.j2\" %}\ncolour = {{ phone.capabilities.columns.colour | default(none) }}\n";
const LINE: &str = "{# {{ nothing.here }} #}\n{% for line in phone.lines %}\nt = {{ line.transport | table('transport') }}\n{% endfor %}\n";

struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Site {
        let site = Site(tempfile::tempdir().unwrap());
        // Everything but what the template writes.
        let fields = provost_host::fields_of_the_model().into_iter();
        let not_yet: Vec<String> = fields.filter(|field| field != "lines.transport").collect();
        site.write("acme/vendor.yaml", &VENDOR_YAML.replace("SECTIONS", &not_yet.join(", ")));
        site.write("acme/templates/device.cfg.j2", DEVICE);
        site.write("acme/templates/parts/line.cfg.j2", LINE);
        site.write("acme/templates/model.cfg.j2", "m = 1\n");
        site
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join("plugins").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.0.path().join("plugins").join(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from}");
        self.write(name, &text.replace(from, to));
    }

    fn shelf(&self) -> (Shelf, Vec<String>) {
        let root = self.0.path();
        let places = Places {
            plugins: vec![root.join("plugins")],
            libraries: Vec::new(),
            templates: root.join("templates"),
            overrides: root.join("overrides"),
            staged: root.join("staged"),
            ..Places::default()
        };
        let (shelf, problems) = Shelf::build(&places, None, Limits::default(), None);
        let problems = problems.iter().map(|problem| self.plain(&problem.to_string())).collect();
        (shelf, problems)
    }

    fn plain(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().join("plugins").display()), "")
    }

    fn review(&self) -> Review {
        let (shelf, problems) = self.shelf();
        review(shelf.get("acme").unwrap_or_else(|| panic!("refused: {problems:?}")), &shelf)
    }

    fn said(&self) -> Vec<String> {
        self.review().problems().map(|problem| self.plain(&problem.to_string())).collect()
    }
}

#[test]
fn a_plugin_in_order_is_told_nothing() {
    assert_eq!(Site::new().said(), Vec::<String>::new());
}

#[test]
fn what_leads_nowhere_is_told_where_it_stands() {
    let site = Site::new();
    site.write("acme/templates/forgotten.cfg.j2", "x = 1\n");
    site.edit("acme/vendor.yaml", "colour: red }", "colour: red, size: 5 }");
    site.edit("acme/vendor.yaml", "  transport:", "  unused: { a: b }\n  transport:");
    site.edit("acme/vendor.yaml", "B2: { lines: 2,", "B2: { lines: 2, line_keys: 3,");
    assert_eq!(
        site.said(),
        [
            "acme/templates/forgotten.cfg.j2: nothing leads to this template: no entry of \"files\", no include, extends or import, no library",
            "acme/vendor.yaml:5: no template or file name reads the column \"size\"",
            "acme/vendor.yaml:6: B2 has a key \"line_keys\", which is none; further columns stand under \"columns\", the others are \
             aliases, expansion_keys, expansion_modules, family, keys, lines, unsupported",
            "acme/vendor.yaml:14: no template reads the table \"unused\"",
        ]
    );
}

#[test]
fn a_name_that_a_template_puts_together_is_read() {
    let site = Site::new();
    site.edit("acme/vendor.yaml", "colour: red }", "colour: red, size_big: 5, form: 1 }");
    let tables = "  way_fast: { udp: 0, tcp: 1, tls: 2 }\n  wide: { udp: 0 }\n  transport:";
    site.edit("acme/vendor.yaml", "  transport:", tables);
    let code = "s = {{ phone.capabilities.columns[\"size_\" ~ \"big\"] | default(none) }}\n\
                {% set how = \"fast\" %}{% for line in phone.lines %}\nw = {{ line.transport | word(\"way_\" ~ how) }}\n{% endfor %}\n";
    site.edit("acme/templates/device.cfg.j2", "colour =", &format!("{code}colour ="));
    assert_eq!(
        site.said(),
        [
            "acme/vendor.yaml:5: no template or file name reads the column \"form\"",
            "acme/vendor.yaml:15: no template reads the table \"wide\"",
        ]
    );
}

#[test]
fn a_template_that_fails_for_one_model_alone_is_found_and_names_it() {
    let site = Site::new();
    // The trial before service asks one model of each family, and this one is not it.
    site.edit("acme/vendor.yaml", "  B2:", "  A9: { lines: 3, columns: { file: a9 } }\n  B2:");
    let only = "{% if phone.model == \"A9\" %}\n{{ phone.nothing }}\n{% endif %}\ncolour";
    site.edit("acme/templates/device.cfg.j2", "colour =", &format!("{only} ="));
    assert_eq!(
        site.said().first().map(String::as_str),
        Some(
            "acme/templates/device.cfg.j2:3: undefined value in \"phone.nothing\": file \"acme-{mac}.cfg\" cannot be rendered for A9"
        )
    );
    // Nor does it ask for everything that a profile may set.
    let site = Site::new();
    site.edit("acme/vendor.yaml", "tcp: 1, tls: 2", "udp2: 1");
    let said = site.said();
    let place = "acme/templates/parts/line.cfg.j2:3: table \"transport\" of vendor.yaml has no entry for \"tcp\"";
    assert!(said[0].starts_with(place) && said[0].ends_with("cannot be rendered for every model"), "{said:?}");
}

#[test]
fn a_field_that_is_written_or_forgotten_against_what_is_declared_is_told_at_the_declaration() {
    let site = Site::new();
    site.edit("acme/templates/parts/line.cfg.j2", "t = ", "l = {{ line.label }}\nt = ");
    site.edit("acme/vendor.yaml", "qos.sip_dscp, ", "");
    let mut said = site.said();
    said.sort();
    assert_eq!(
        said,
        [
            "acme/vendor.yaml:15: a file says lines.label, though it is listed as one that none says",
            "acme/vendor.yaml:15: no file says qos.sip_dscp, and neither \"unsupported\" nor \"not_yet\" lists it",
        ]
    );
}

#[test]
fn another_vendor_that_claims_the_same_phones_is_told() {
    let site = Site::new();
    let other = VENDOR_YAML.replace("Acme", "Other").replace("[acme]", "[other, ACME]").replace("SECTIONS", "");
    site.write("other/vendor.yaml", &other);
    for name in ["device.cfg.j2", "model.cfg.j2"] {
        site.write(&format!("other/templates/{name}"), "a = 1\n");
    }
    assert_eq!(
        site.said(),
        [
            "acme/vendor.yaml:2: Other announces itself as \"acme\" too",
            "acme/vendor.yaml:3: Other has the MAC prefix 02ACDE too",
        ]
    );
}

#[test]
fn a_vendor_yaml_whose_parts_do_not_agree_is_refused_with_all_of_them_at_their_lines() {
    let site = Site::new();
    site.edit("acme/vendor.yaml", "template: model.cfg.j2, kind: common", "template: model.xml.j2, option: loud");
    site.edit("acme/vendor.yaml", "announce:", "words:\n  locale.language: languages\nannounce:");
    let (shelf, problems) = site.shelf();
    assert!(shelf.get("acme").is_none());
    assert_eq!(
        problems,
        [
            "acme/vendor.yaml:13: \"words\" looks locale.language up in a table \"languages\", which is not under \"tables\"",
            "acme/vendor.yaml:9: file \"{column.file}.cfg\" is answered by template \"model.xml.j2\", but there is no format \"xml\" under \"formats\"",
            "acme/vendor.yaml:9: file \"{column.file}.cfg\" depends on option \"loud\", which is not under \"options\"",
        ]
    );
    site.edit("acme/vendor.yaml", "ouis:", "ouiss:");
    let (_, problems) = site.shelf();
    assert!(problems[0].starts_with("acme/vendor.yaml:3: ") && problems[0].contains("ouiss"), "{problems:?}");
}

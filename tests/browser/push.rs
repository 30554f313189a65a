//! A template is edited in the page: what it would come to is seen before it is saved, and fifty phones fetch it after.

use std::{thread, time::Duration};

use provost_phone::{Fleet, Options};
use provost_tests::{Lan, Plan, inventory, specs};

use crate::{
    judged::Verdict,
    window::{Window, button, element, field, link, text},
};

const PHONES: u16 = 50;
const TEMPLATE: &str = "yealink/device.cfg.j2";
const ADDED: &str = "phone_setting.backlight_time = 60";

#[test]
fn a_template_that_is_edited_in_the_page_is_previewed_compared_and_pushed_to_fifty_phones() {
    let mut lan = Lan::new(1);
    let sources = lan.add_addresses(0, PHONES);
    let kinds = specs().into_iter().find(|(id, _)| id == "yealink").expect("a vendor").1.simulate;
    // Each obeys one order, and is gone then.
    let options = Options { resyncs: 1, stay: Duration::from_secs(240), ..Options::default() };
    let fleet = Fleet { kinds, phones: PHONES.into(), first: 1, sources, at_once: PHONES.into(), options };
    let profiles = inventory(&fleet.members().expect("fifty phones"));
    let first = fleet.members().expect("fifty phones")[0].0.to_string();
    let server = Plan::on(lan.server()).file("profiles/site.yaml", profiles).start().ready();
    let mut window = Window::on(lan.server(), &server, "push");
    thread::scope(|scope| {
        let host = lan.phone(0);
        let phones = scope.spawn(move || host.block_on(async || fleet.run(|_| ()).await));
        let mut verdict = Verdict::default();
        window.first_visit(&server);
        window.go("/?progress=in_step");
        window.see(text("1–50 of 50"));

        window.click(link("Templates"));
        window.click(link(TEMPLATE));
        window.see(text("As shipped."));
        window.fill(field("Show the files of a phone (MAC address or name)"), &first);
        let shipped = window.value(field("Text"));
        // Tried as it is typed; the first thing typed is no template.
        window.fill(field("Text"), &format!("{shipped}\n{{% if %}}"));
        window.see(element("[role=alert] [data-line]"));
        window.picture("mistake");
        verdict.on(&mut window, "a mistake in a template");
        window.fill(field("Text"), &format!("{shipped}\n{ADDED}\n"));
        window.see(text("50 phones would change"));
        assert_eq!(window.count(element("details.changed")), u64::from(PHONES), "each phone's difference is there");
        assert!(window.count(element(&format!("details.changed:has-text('+{ADDED}')"))) >= u64::from(PHONES));
        window.click(element("details.changed summary"));
        window.see(text(&format!("+{ADDED}")));
        window.picture("preview-and-differences");
        verdict.on(&mut window, "a preview");

        window.click(button("Save"));
        window.see(text("50 phones are out of date"));
        window.picture("saved");
        verdict.on(&mut window, "a template that was saved");
        window.fill(field("Phones a minute"), "6000");
        window.click(button("Push: have them fetch it"));
        window.see(element("[data-state=done] [data-in-step='50']"));
        window.picture("pushed");
        verdict.on(&mut window, "a roll-out that is over");
        window.go("/?progress=in_step");
        window.see(text("1–50 of 50"));
        window.picture("in-step");
        verdict.pronounce();

        let report = phones.join().expect("phones that do not panic").expect("phones");
        assert!(report.is_complete(), "{report:#?}");
        assert!(report.files >= 2 * u64::from(PHONES), "{report:#?}");
    });
}

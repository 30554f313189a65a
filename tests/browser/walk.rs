//! From a phone that is plugged in to one that is in step, in front of an open page.

use provost_tests::{Lan, Plan};

use crate::{
    Phone,
    window::{Window, button, field, link, row, text},
};

const MAC: &str = "80:5e:c0:00:00:01";

#[test]
fn a_phone_is_plugged_in_approved_in_the_page_and_told_to_fetch_again_while_another_tab_looks_on() {
    let lan = Lan::new(1);
    let server = Plan::on(lan.server()).start().ready();
    let mut window = Window::on(lan.server(), &server, "walk");
    window.first_visit(&server);
    window.see(text("No phone is enrolled yet."));
    window.picture("nobody");
    window.mark();

    let phone = Phone::plugged_in(lan.phone(0), &server, MAC, "101:s3cret-101");
    window.see(text("1 pending"));
    window.see(link(&format!("Approve {MAC}")));
    window.picture("pending");

    // The work is done in a second tab; the first is only looked at from here on.
    window.tab(1);
    window.go("/");
    window.click(link(&format!("Approve {MAC}")));
    window.fill(field("Name"), "Front desk");
    window.fill(field("Number"), "101");
    window.fill(field("Display name"), "Anna Berg");
    window.fill(field("Password"), "s3cret-101");
    window.picture("to-be-approved");
    window.click(button("Approve"));
    window.see(text("It is enrolled."));
    let fetched = |mark| {
        server.wait_after(mark, "fetch", |line| {
            line.is("message", "fetch") && line.is("device", MAC) && line.is("outcome", "rendered")
        })
    };
    fetched(0);

    window.tab(0);
    window.see(row(&format!("{MAC} Front desk")));
    window.see(text("in step"));
    window.gone(text("1 pending"));
    window.picture("in-step");

    // What it took is not what it would get any more, once somebody has changed it.
    window.tab(1);
    window.go(&format!("/devices/{MAC}"));
    for step in ["SUBSCRIBE", "It answered the NOTIFY with 200", "rendered for it"] {
        window.see(text(step));
    }
    window.picture("device");
    window.click(link("Edit it"));
    window.picture("form");
    window.click(link("Profile file"));
    let profile = window.value(field("Profile file (YAML)"));
    assert!(profile.contains("Anna Berg") && profile.contains("s3cret-101"), "{profile}");
    window.fill(field("Profile file (YAML)"), &profile.replace("Anna Berg", "Anna Kraus"));
    window.click(button("Save"));
    window.see(text("Saved, and in service."));
    window.tab(0);
    window.see(text("out of date"));
    window.picture("out-of-date");

    let mark = server.mark();
    window.tab(1);
    window.click(button("Make it fetch again"));
    window.see(text("It has said that it will."));
    fetched(mark);
    let report = phone.report();
    assert_eq!(report["configured"], true, "{report:#}");
    assert_eq!(report["challenged"][0]["proof"], "right", "{report:#}");
    assert_eq!(report["resyncs"].as_array().map(Vec::len), Some(1), "{report:#}");
    window.go(&format!("/devices/{MAC}"));
    window.see(text("It answered that with 200"));
    window.picture("fetched-again");

    window.tab(0);
    window.see(text("in step"));
    assert!(window.is_marked(), "the page was loaded again, and should have kept itself up to date");
}

#[test]
fn somebody_without_a_mouse_approves_a_phone_and_the_page_disturbs_nobody_when_another_one_shows_up() {
    let lan = Lan::new(1);
    let server = Plan::on(lan.server()).start().ready();
    let mut window = Window::on(lan.server(), &server, "keyboard");
    window.first_visit(&server);
    let shows_up = |file: &str| lan.phone(0).fetch(&format!("{}{file}", server.http_url(lan.server().address())));
    shows_up("805ec00000a1.cfg");
    window.see(text("1 pending"));
    let tick = || field("Tick 80:5e:c0:00:00:a1");
    window.check(tick());
    window.reach(link("Approve 80:5e:c0:00:00:a1"));
    shows_up("805ec00000a0.cfg");
    window.see(text("2 pending"));
    assert!(window.is_checked(tick()), "what was ticked stays so");
    window.picture("ticked");
    // The focus is where it was, though the row is another element by now.
    window.press("Enter");
    window.see(field("Number"));
    assert_eq!(window.url(), "/devices/80:5e:c0:00:00:a1#approve");
    window.reach(field("Number"));
    window.types("101");
    window.press("Enter");
    window.see(text("It is enrolled."));
}

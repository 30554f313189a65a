//! Something is broken while the server runs, and the page says it with what to do.

use provost_tests::{Lan, Plan};

use crate::window::{Window, button, link, row, text};

#[test]
fn what_breaks_in_the_network_is_seen_on_the_page_and_gone_from_it_once_it_is_mended() {
    let lan = Lan::new(1);
    let server = Plan::on(lan.server()).file("provost.yaml", "process: { user: root }\n").start().ready();
    server.wait_for("eth0", |line| line.is("message", "joined the group") && line.is("interface", "eth0"));
    let mut window = Window::on(lan.server(), &server, "doctor");
    window.first_visit(&server);
    window.go("/network");
    window.click(link("What stands in the way?"));
    window.see(text("Nothing stands between phones and this server"));
    // The server hears itself, though it may open no raw socket any more.
    window.see(text("224.0.1.75 joined, heard by provost"));
    window.see(text("a SUBSCRIBE sent there comes back"));
    // What it may not look at is no fault of the network.
    window.see(text("no program that lists rules may be started from here"));
    window.see(text("/etc/resolv.conf may not be read from here"));
    window.picture("well");

    lan.server().nft(
        "table inet filter {\n chain input {\n  type filter hook input priority 0\n  udp dport 5060 drop\n }\n}\n",
    );
    window.click(button("Look again"));
    window.see(row("eth0 error a SUBSCRIBE that was sent to 224.0.1.75:5060 there did not come back"));
    window.picture("firewall");
    lan.server().nft("flush ruleset\n");
    window.click(button("Look again"));
    window.see(text("Nothing stands between phones and this server"));

    lan.server().ip("link set eth0 multicast off\n");
    server.wait_for("it has left", |line| line.is("message", "left the group") && line.is("interface", "eth0"));
    window.click(button("Look again"));
    window.see(row("eth0 error multicast is switched off there"));
    window.see(text("ip link set eth0 multicast on"));
    window.picture("multicast");
}

//! One phone: what it is, what it was seen doing, what it took and would get now, and what can be done with it.

use std::collections::BTreeMap;

use axum::{
    Extension, Json as Answer,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use minijinja::{Value, context};
use provost_plugin::MacAddr;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{
    Refusal,
    form::{Checked, Fields},
    picture,
    session::Session,
    show,
    words::data,
};
use crate::{
    Admin,
    api::{
        Body, Mac, Query, devices, function_keys,
        preview::{self, Which},
        provenance, settings, trust,
        write::{Account, Assignment},
    },
    problem::Problem,
    serve::Door,
};

/// Silence of so many milliseconds between two events makes them parts of two boots.
const PAUSE: u64 = 120_000;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    /// The file that is shown.
    file: String,
    /// What was just done.
    done: String,
    /// The key that is shown, and the module that it is on; none of them: it is on the phone itself.
    key: String,
    module: String,
    /// The passwords of its pages, in the one answer to who asked for them.
    #[serde(skip)]
    web_passwords: Option<Value>,
}

impl Asked {
    pub(super) fn of_key(module: &str, key: &str) -> Asked {
        Asked { key: key.to_owned(), module: module.to_owned(), ..Asked::default() }
    }
}

pub(super) async fn page(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    mac: Result<Mac, Problem>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let Mac(mac) = mac?;
    draw(&door.admin, &session, mac, &asked, None).await
}

/// The page with the passwords that were made for the phone's own, this once.
pub(super) async fn web_password(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    mac: Result<Mac, Problem>,
    Checked(_): Checked,
) -> Result<Response, Refusal> {
    let Mac(mac) = mac?;
    let shown = crate::api::web_password::show(State(door.admin.clone()), Mac(mac)).await?;
    let asked = Asked { web_passwords: Some(data(&shown.0)), ..Asked::default() };
    draw(&door.admin, &session, mac, &asked, None).await
}

/// The page, with what was wrong with a form that was filled in on it.
pub(super) async fn draw(
    admin: &Admin,
    session: &Session,
    mac: MacAddr,
    asked: &Asked,
    wrong: Option<(&Problem, &Fields)>,
) -> Result<Response, Refusal> {
    let device = devices::one(State(admin.clone()), Mac(mac)).await?;
    let device = serde_json::to_value(device.0).map_err(|error| Problem::internal(error.to_string()))?;
    let is_known = matches!(device["state"].as_str(), Some("enrolled" | "disabled"));
    let names: Vec<&str> =
        device["files"].as_array().into_iter().flatten().filter_map(|file| file["name"].as_str()).collect();
    let file = if asked.file.is_empty() { own_file(&device) } else { Some(asked.file.as_str()) };
    let (mut shown, mut unshown) = (None, None);
    if let Some(file) = file {
        let which = Query(Which { file: file.to_owned() });
        match preview::preview(State(admin.clone()), Mac(mac), which).await {
            Ok(preview) => shown = Some(data(&preview.0)),
            Err(problem) => unshown = Some(problem.detail),
        }
    }
    let text = shown.as_ref().and_then(|shown| shown.get_attr("text").ok()).map(|text| text.to_string());
    let (traced, complete) = match (file, text) {
        (Some(file), Some(text)) if is_known => traced(admin, mac, file, &text).await,
        _ => (None, true),
    };
    // A phone of which nothing can be said has no keys to show.
    let keys = match is_known {
        true => function_keys::function_keys(State(admin.clone()), Mac(mac)).await.ok().map(|keys| data(&keys.0)),
        false => None,
    };
    let module = asked.module.parse::<usize>().unwrap_or_default();
    let chosen = keys.as_ref().and_then(|keys| chosen(keys, module, asked.key.parse().ok()?));
    let version = match &chosen {
        Some(_) => settings::settings(State(admin.clone()), Mac(mac)).await.ok().map(|([(_, tag)], _)| tag),
        None => None,
    };
    let version = version.map(|tag| tag.trim_matches('"').to_owned());
    let explanation = match is_known {
        true => preview::explanation(State(admin.clone()), Mac(mac)).await?.0,
        false => Json::Null,
    };
    let has_token = explanation["values"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|value| value["field"] == "trust.token" && value["value"] != "off");
    let has_web_password = crate::api::web_password::made(admin, mac).is_ok_and(|made| !made.is_empty());
    let world = admin.desk.world();
    let profiles: Vec<&str> = world.fleet.profiles().collect();
    let kept = |name: &str| wrong.map(|(_, fields)| fields.get(name).to_owned()).unwrap_or_default();
    let page = show(
        "device.html",
        context! {
            csrf => session.csrf.as_str(), here => "device", is_known, has_token, names => data(&names), shown, unshown, profiles => data(&profiles), file,
            boots => boots(&device["events"]), traced, complete, keys, chosen, module, version,
            device => data(&device),
            values => data(&explanation["values"]),
            layers => data(&explanation["layers"]),
            url => explanation["url"].as_str(),
            outcome => explanation["outcome"].as_str(),
            done => asked.done.as_str(),
            has_web_password, web_passwords => &asked.web_passwords,
            wrong => wrong.map(|(problem, _)| data(problem)),
            kept => context! {
                // Preselected, as long as nobody chose otherwise.
                profile => wrong.map_or(device["suggested_profile"].as_str().unwrap_or_default().to_owned(), |_| kept("profile")),
                label => kept("label"), number => kept("number"),
                display_name => kept("display_name"), to => kept("to"),
                is_key => wrong.is_some_and(|(_, fields)| fields.all("key").next().is_some()),
                kind => kept("kind"), value => kept("value"), line => kept("line"),
            },
        },
    );
    let status = wrong.map_or(StatusCode::OK, |(problem, _)| {
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY)
    });
    Ok((status, page).into_response())
}

/// The lines of a file, each with the settings that it carries; and whether there was time for all of them.
async fn traced(admin: &Admin, mac: MacAddr, file: &str, text: &str) -> (Option<Vec<Value>>, bool) {
    let which = Query(Which { file: file.to_owned() });
    let Ok(Answer(traced)) = provenance::provenance(State(admin.clone()), Mac(mac), which).await else {
        return (None, true);
    };
    let mut of_line: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for carried in traced.lines {
        of_line.entry(carried.line).or_default().push(format!("{} from {}", carried.field, carried.origin));
    }
    let line = |(index, text): (usize, &str)| {
        // What many settings go into is told by its first ones.
        let from = of_line.get(&(index + 1)).map(|from| from.iter().take(6).cloned().collect::<Vec<_>>().join("; "));
        context! { text, from }
    };
    (Some(text.lines().enumerate().map(line).collect()), traced.complete)
}

/// The key of a position, of the phone itself or of a module counted from 1.
fn chosen(keys: &Value, module: usize, position: i64) -> Option<Value> {
    let all = match module {
        0 => keys.get_attr("keys").ok()?,
        module => keys.get_attr("modules").ok()?.get_item(&Value::from(module - 1)).ok()?,
    };
    all.try_iter().ok()?.find(|key| key.get_attr("position").is_ok_and(|is| is == Value::from(position)))
}

/// The longest file that is this phone's alone: others are there to name it.
fn own_file(device: &Json) -> Option<&str> {
    let files = device["files"].as_array()?;
    let own = files.iter().filter(|file| file["kind"] == "device").max_by_key(|file| file["bytes"].as_u64());
    own.or(files.first())?["name"].as_str()
}

/// What the phone was seen doing as pictures of its boots, the newest first: each a list of steps with the time since the one before.
fn boots(events: &Json) -> Vec<Value> {
    let (mut boots, mut steps, mut began, mut last) = (Vec::new(), Vec::new(), 0, None);
    for event in events.as_array().into_iter().flatten() {
        let at = event["at"].as_u64().unwrap_or_default();
        let gap = last.map(|last| at.saturating_sub(last));
        if gap.is_none_or(|gap| gap > PAUSE) {
            if !steps.is_empty() {
                let steps = std::mem::take(&mut steps);
                boots.push(context! { at => began, picture => picture::boot(&steps), steps });
            }
            began = at;
        }
        let gap = gap.filter(|gap| *gap <= PAUSE);
        steps.push(step(event, at, gap));
        last = Some(at);
    }
    if !steps.is_empty() {
        boots.push(context! { at => began, picture => picture::boot(&steps), steps });
    }
    boots.reverse();
    boots
}

fn step(event: &Json, at: u64, gap: Option<u64>) -> Value {
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let through =
        || event["relay"].as_str().map_or_else(String::new, |relay| format!(" (heard through relay {relay})"));
    let (tag, title, detail, class) = match event["what"].as_str().unwrap_or_default() {
        "announced" => {
            let whose = match text("plugin").as_str() {
                "forward" => "with somebody else's URL".to_owned(),
                plugin => format!("with a URL worded by the plugin {plugin}"),
            };
            (
                "SUBSCRIBE".to_owned(),
                format!("It asked where its files are{}", through()),
                format!("answered with 200, and a NOTIFY {whose}"),
                "busy",
            )
        }
        "notify_answered" => {
            let code = event["code"].as_u64().unwrap_or_default();
            let class = if (200..300).contains(&code) { "good" } else { "bad" };
            ("NOTIFY".to_owned(), format!("It answered the NOTIFY with {code}"), String::new(), class)
        }
        "notify_timed_out" => ("NOTIFY".to_owned(), "It did not take the NOTIFY".to_owned(), text("reason"), "bad"),
        "ordered" => ("NOTIFY".to_owned(), format!("It was told {}", text("event")), String::new(), "calm"),
        "order_answered" => {
            let code = event["code"].as_u64().unwrap_or_default();
            let class = if (200..300).contains(&code) { "good" } else { "bad" };
            ("NOTIFY".to_owned(), format!("It answered that with {code}"), String::new(), class)
        }
        "order_failed" => ("NOTIFY".to_owned(), "It could not be told".to_owned(), text("reason"), "bad"),
        "enrolled" => {
            ("RULE".to_owned(), "It was enrolled".to_owned(), format!("by the rule {}", text("rule")), "good")
        }
        "not_enrolled" => ("RULE".to_owned(), "It could not be enrolled".to_owned(), text("reason"), "bad"),
        "refused" => ("SUBSCRIBE".to_owned(), format!("It was given no answer{}", through()), text("reason"), "warn"),
        "denied" if event["door"] == "pnp" => (
            "SUBSCRIBE".to_owned(),
            format!("{} announced itself in its name, and was given no answer", text("from")),
            text("reason"),
            "bad",
        ),
        "denied" => (
            text("door").to_uppercase(),
            format!("{} was refused to {}", text("file"), text("from")),
            text("reason"),
            "bad",
        ),
        "opened" => match event["minutes"].as_u64().unwrap_or_default() {
            0 => ("OPEN".to_owned(), "It was closed".to_owned(), String::new(), "calm"),
            minutes => ("OPEN".to_owned(), format!("It was opened for {minutes} min"), String::new(), "warn"),
        },
        "fetched" => {
            let outcome = text("outcome");
            let class = match outcome.as_str() {
                "rendered" | "asset" => "good",
                "failed" => "bad",
                _ => "calm",
            };
            let word = match outcome.as_str() {
                "rendered" => "rendered for it",
                "waiting" => "what a phone gets that waits for its approval",
                "asset" => "sent as it is",
                "unknown" => "there is no such file for it",
                other => other,
            };
            let figures = data(json!({ "bytes": event["bytes"], "micros": event["micros"] }));
            let step = context! {
                tag => text("door").to_uppercase(), title => text("file"), detail => word, class, at, gap, figures,
                is_file => true,
            };
            return step;
        }
        other => (String::new(), other.replace('_', " "), text("reason"), "calm"),
    };
    context! { tag, title, detail, class, at, gap, figures => Value::from(()), is_file => false }
}

/// Back to the page; of what failed, to the form as it was filled in.
async fn done(
    door: &Door,
    session: &Session,
    mac: MacAddr,
    fields: &Fields,
    outcome: Result<(MacAddr, &str), Problem>,
) -> Result<Response, Refusal> {
    match outcome {
        Ok((mac, done)) => Ok(Redirect::to(&format!("/devices/{mac}?done={done}")).into_response()),
        Err(problem) => draw(&door.admin, session, mac, &Asked::default(), Some((&problem, fields))).await,
    }
}

pub(super) async fn approve(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    mac: Result<Mac, Problem>,
    Checked(fields): Checked,
) -> Result<Response, Refusal> {
    let Mac(mac) = mac?;
    let account = Account {
        number: fields.filled("number"),
        display_name: fields.filled("display_name"),
        // As it was typed: a blank may be part of it.
        password: Some(fields.get("password")).filter(|password| !password.is_empty()).map(provost_plugin::Secret::new),
        ..Account::default()
    };
    let assignment = Assignment {
        label: fields.filled("label"),
        profile: fields.filled("profile"),
        lines: Some(account).filter(Account::is_something).into_iter().collect(),
        ..Assignment::default()
    };
    let approved = devices::approve(State(door.admin.clone()), Mac(mac), Body(assignment)).await;
    done(&door, &session, mac, &fields, approved.map(|_| (mac, "approved"))).await
}

pub(super) async fn ignore(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    mac: Result<Mac, Problem>,
    Checked(fields): Checked,
) -> Result<Response, Refusal> {
    let Mac(mac) = mac?;
    let admin = State(door.admin.clone());
    let outcome = match fields.get("ignored") {
        "no" => devices::unignore(admin, Mac(mac)).await.map(|_| (mac, "unignored")),
        _ => devices::ignore(admin, Mac(mac)).await.map(|_| (mac, "ignored")),
    };
    // From the fleet's strip one wants to go on with the next phone there.
    if outcome.is_ok() && fields.get("back") == "fleet" {
        return Ok(Redirect::to("/").into_response());
    }
    done(&door, &session, mac, &fields, outcome).await
}

pub(super) async fn resync(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    mac: Result<Mac, Problem>,
    Checked(fields): Checked,
) -> Result<Response, Refusal> {
    let Mac(mac) = mac?;
    let order = devices::Order { reboot: fields.get("reboot") == "yes" };
    let told = devices::resync(State(door.admin.clone()), Mac(mac), Body(order)).await;
    done(&door, &session, mac, &fields, told.map(|_| (mac, "resynced"))).await
}

pub(super) async fn open(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    mac: Result<Mac, Problem>,
    Checked(fields): Checked,
) -> Result<Response, Refusal> {
    let Mac(mac) = mac?;
    let admin = State(door.admin.clone());
    let outcome = match fields.get("act") {
        "close" => trust::close(admin, Mac(mac)).await.map(|_| (mac, "closed")),
        "revoke" => trust::revoke(admin, Mac(mac)).await.map(|_| (mac, "revoked")),
        _ => trust::open(admin, Mac(mac), Body(trust::Order::default())).await.map(|_| (mac, "opened")),
    };
    done(&door, &session, mac, &fields, outcome).await
}

pub(super) async fn swap(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    mac: Result<Mac, Problem>,
    Checked(fields): Checked,
) -> Result<Response, Refusal> {
    let Mac(mac) = mac?;
    let outcome = match fields.get("to").trim().parse::<MacAddr>() {
        Err(_) => Err(Problem::field("to", "that is no MAC address; the new phone has it on its back")),
        Ok(to) => {
            let swap = Body(devices::Swap { to });
            devices::swap(State(door.admin.clone()), Mac(mac), swap).await.map(|_| (to, "swapped"))
        }
    };
    done(&door, &session, mac, &fields, outcome).await
}

pub(super) async fn forget(
    State(door): State<Door>,
    Extension(session): Extension<Session>,
    mac: Result<Mac, Problem>,
    Checked(fields): Checked,
) -> Result<Response, Refusal> {
    let Mac(mac) = mac?;
    match devices::forget(State(door.admin.clone()), Mac(mac)).await {
        Ok(_) => Ok(Redirect::to("/").into_response()),
        Err(problem) => done(&door, &session, mac, &fields, Err(problem)).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_fall_into_boots_with_gaps() {
        let events = json!([
            { "at": 1000, "what": "announced", "plugin": "acme" },
            { "at": 1080, "what": "notify_answered", "code": 200 },
            { "at": 500_000, "what": "fetched", "file": "a.cfg", "door": "tftp", "outcome": "rendered", "bytes": 9, "micros": 5 },
            { "at": 500_200, "what": "refused", "reason": "no" },
            { "at": 500_200, "what": "something_new" },
        ]);
        let boots = boots(&events);
        let steps: Vec<usize> = boots.iter().map(|boot| boot.get_attr("steps").unwrap().len().unwrap()).collect();
        assert_eq!(steps, [3, 2], "the newest first");
        let of = |boot: usize, step: usize, name: &str| {
            let steps = boots[boot].get_attr("steps").unwrap();
            steps.get_item(&Value::from(step)).unwrap().get_attr(name).unwrap().to_string()
        };
        assert_eq!([of(1, 0, "tag"), of(1, 1, "gap"), of(0, 0, "tag")], ["SUBSCRIBE", "80", "TFTP"]);
        assert_eq!([of(0, 0, "gap"), of(0, 1, "gap")], ["None", "200"]);
        assert!(super::boots(&Json::Null).is_empty());
    }
}

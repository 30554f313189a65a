//! Rules by which strangers are enrolled without anybody's word: which phones a rule is for, and what they become. Off as long as
//! nobody writes one.
//!
//! A rule gives each phone an account of its own. Which are taken is read off the devices in the files and kept nowhere else, so that
//! a restart, a device that is deleted and one that was written by hand are all seen.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::SystemTime,
};

use ipnet::IpNet;
use provost_plugin::{MacAddr, Spec};
use serde_json::{Map, Value as Json};

use crate::{
    Day, Fleet,
    check::{cidr, pattern, vendor_id},
    document::{Document, Own, Reference},
    node::{Key, Node, Value},
    problem::Problem,
    resolve::Model,
};

/// Accounts of one rule: a building, not a country.
const ACCOUNTS: usize = 10_000;

/// One rule.
#[derive(Debug)]
pub struct Rule {
    pub(crate) name: Box<str>,
    pub(crate) file: Arc<str>,
    pub(crate) line: u32,
    pub(crate) column: u32,
    networks: Vec<IpNet>,
    vendor: Option<Box<str>>,
    models: Vec<Box<str>>,
    pub(crate) profile: Reference,
    pub(crate) site: Option<Reference>,
    /// None where its phones get no account.
    accounts: Option<Vec<Account>>,
    until: Option<Day>,
    limit: Option<u32>,
}

/// What one phone gets as its first line.
#[derive(Debug)]
pub struct Account {
    number: Box<str>,
    /// Where more than the number was written.
    line: Option<Node>,
}

impl Account {
    pub fn number(&self) -> &str {
        &self.number
    }
}

impl Rule {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    pub fn line(&self) -> u32 {
        self.line
    }

    pub fn profile(&self) -> &str {
        &self.profile.name
    }

    /// The plugin's name for the vendor whose phones it is for; none where it is for all.
    pub fn vendor(&self) -> Option<&str> {
        self.vendor.as_deref()
    }

    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(|model| &**model)
    }

    pub fn until(&self) -> Option<Day> {
        self.until
    }

    /// Lines of accounts that say more than a number.
    pub(crate) fn written(&self) -> impl Iterator<Item = &Node> {
        self.accounts.iter().flatten().filter_map(|account| account.line.as_ref())
    }

    fn is_for(&self, stranger: &Stranger) -> bool {
        let at_home = |address: IpAddr| self.networks.iter().any(|network| network.contains(&address.to_canonical()));
        let Some(spec) = stranger.spec.filter(|_| stranger.address.is_some_and(at_home)) else { return false };
        let model = Model::of(spec, stranger.model);
        self.vendor.as_deref().is_none_or(|vendor| vendor == spec.id())
            && (self.models.is_empty() || self.models.iter().any(|pattern| model.fits(pattern)))
    }

    /// The file of a device that it enrols.
    pub fn device(&self, mac: MacAddr, account: Option<&Account>) -> String {
        let text = |text: &str| Json::from(text).to_string();
        let mut yaml = format!("devices:\n  \"{mac}\":\n    enrolled_by: {}\n", text(&self.name));
        yaml.push_str(&format!("    profile: {}\n", text(&self.profile.name)));
        if let Some(site) = &self.site {
            yaml.push_str(&format!("    site: {}\n", text(&site.name)));
        }
        if let Some(account) = account {
            yaml.push_str("    lines:\n");
            let mut dash = "-";
            let written = account.line.as_ref().map(Node::entries).unwrap_or_default();
            let mut fields = vec![("number", Json::from(&*account.number))];
            fields.extend(
                written
                    .iter()
                    .filter(|(key, node)| key.as_str() != "number" && !matches!(node.value, Value::Null))
                    .map(|(key, node)| (key.as_str(), json(node))),
            );
            for (name, value) in fields {
                // JSON is YAML, whatever the value holds.
                yaml.push_str(&format!("      {dash} {name}: {value}\n"));
                dash = " ";
            }
        }
        yaml
    }
}

fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Switch(on) => Json::from(*on),
        Value::Integer(number) => Json::from(*number),
        Value::Number(number) => Json::from(*number),
        Value::Text(text) => Json::from(&**text),
        Value::Refer(refer) => refer.json(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => {
            Json::Object(entries.iter().map(|(key, node)| (key.as_str().to_owned(), json(node))).collect::<Map<_, _>>())
        }
    }
}

/// A phone that stands in no file, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Stranger<'a> {
    /// Of its vendor; none where nobody knows whose phone it is.
    pub spec: Option<&'a Spec>,
    pub model: Option<&'a str>,
    /// From where it announced itself.
    pub address: Option<IpAddr>,
}

/// What the rules say to a stranger.
#[derive(Debug)]
pub enum Enrolment<'a> {
    /// None is for it.
    Nobody,
    /// This one takes it.
    By { rule: &'a Arc<Rule>, account: Option<&'a Account> },
    /// This one is for it, and cannot take it.
    Not { rule: &'a Arc<Rule>, why: String },
}

/// What was given to phones that the files do not show yet.
#[derive(Debug, Default)]
pub struct Given {
    numbers: HashSet<Box<str>>,
    by_rule: HashMap<Box<str>, usize>,
}

impl Given {
    pub fn add(&mut self, rule: &Rule, number: Option<&str>) {
        *self.by_rule.entry(rule.name.clone()).or_default() += 1;
        self.numbers.extend(number.map(Into::into));
    }
}

/// What a rule has to give by the files.
#[derive(Debug)]
pub(crate) struct Room {
    /// Indices of its accounts that no device has.
    free: Vec<u32>,
    /// Devices that it enrolled.
    enrolled: usize,
}

impl Room {
    /// Of each rule, in their order.
    pub(crate) fn of_all<'a>(rules: &[Arc<Rule>], documents: impl Iterator<Item = &'a Document>) -> Vec<Room> {
        let mut taken: HashSet<&str> = HashSet::new();
        let mut enrolled: HashMap<&str, usize> = HashMap::new();
        let mut take = |settings: &'a Node| {
            let Some(Value::List(lines)) = settings.get("lines").map(|lines| &lines.value) else { return };
            for line in lines {
                let names = ["number", "username", "auth_username"].into_iter();
                taken.extend(names.filter_map(|name| line.get(name).and_then(Node::text)));
            }
        };
        for document in documents {
            for device in &document.devices {
                take(&device.settings);
                if let Some(rule) = device.enrolled_by() {
                    *enrolled.entry(rule).or_default() += 1;
                }
            }
            // A number that a whole layer has is nobody's to give either.
            document.profiles.iter().for_each(|profile| take(&profile.layer.settings));
            let layers =
                document.defaults.iter().chain(&document.sites).chain(&document.vendors).chain(&document.models);
            layers.for_each(|layer| take(&layer.settings));
            document.networks.iter().for_each(|network| take(&network.layer.settings));
        }
        let room = |rule: &Arc<Rule>| {
            let accounts = rule.accounts.iter().flatten().zip(0..);
            let free =
                accounts.filter(|(account, _)| !taken.contains(&*account.number)).map(|(_, index)| index).collect();
            Room { free, enrolled: enrolled.get(&*rule.name).copied().unwrap_or_default() }
        };
        rules.iter().map(room).collect()
    }
}

impl Fleet {
    /// The rules in service, in the order in which they are tried.
    pub fn rules(&self) -> impl ExactSizeIterator<Item = &Arc<Rule>> {
        self.index.rules.iter()
    }

    /// Whether a rule enrols this phone, and with which account: of those that are for it, the first that can. `given` is what the
    /// files do not show yet.
    pub fn enrolment(&self, stranger: &Stranger, now: SystemTime, given: &Given) -> Enrolment<'_> {
        let mut refused = Enrolment::Nobody;
        for (index, rule) in self.index.rules.iter().enumerate().filter(|(_, rule)| rule.is_for(stranger)) {
            match self.take(rule, index, now, given) {
                Ok(account) => return Enrolment::By { rule, account },
                Err(why) if matches!(refused, Enrolment::Nobody) => refused = Enrolment::Not { rule, why },
                Err(_) => {}
            }
        }
        refused
    }

    fn take<'a>(
        &'a self,
        rule: &'a Rule,
        index: usize,
        now: SystemTime,
        given: &Given,
    ) -> Result<Option<&'a Account>, String> {
        if let Some(until) = rule.until.filter(|until| until.is_over(now)) {
            return Err(format!("it ended with {until}"));
        }
        let Some(room) = self.rooms().get(index) else { return Err("it is not settled yet".into()) };
        let enrolled = room.enrolled + given.by_rule.get(&rule.name).copied().unwrap_or_default();
        if let Some(limit) = rule.limit.filter(|limit| enrolled >= *limit as usize) {
            return Err(format!("its limit of {limit} phones is reached"));
        }
        let Some(accounts) = &rule.accounts else { return Ok(None) };
        // A device that cannot be read may have any number: better nobody is enrolled than two with one number.
        if let Some(file) = self.unread() {
            return Err(format!("which numbers are taken is not known as long as {file} cannot be read as a whole"));
        }
        let free = room.free.iter().filter_map(|index| accounts.get(*index as usize));
        let account = free.into_iter().find(|account| !given.numbers.contains(&account.number));
        account.map(Some).ok_or_else(|| match accounts.len() {
            1 => "its only number is taken".to_owned(),
            count => format!("its {count} numbers are all taken"),
        })
    }
}

pub(crate) fn read(file: &Arc<str>, key: &Key, node: Node, problems: &mut Vec<Problem>) -> Option<Rule> {
    let before = problems.len();
    let own =
        Own::split(node, &["networks", "vendor", "models", "profile", "site", "numbers", "accounts", "until", "limit"]);
    let mut wrong = |at: (u32, u32), message: String| problems.push(Problem::error(file, at.0, at.1, message));
    let list = |name| match own.get(name).map(|node| &node.value) {
        Some(Value::List(items)) => &items[..],
        _ => &[],
    };
    let texts = |name| list(name).iter().filter_map(|node| Some((node.text()?, (node.line, node.column))));

    let mut networks = Vec::new();
    for (text, at) in texts("networks") {
        match cidr(text) {
            Ok(network) => networks.push(network),
            Err(message) => wrong(at, message),
        }
    }
    if networks.is_empty() && own.get("networks").is_some() && list("networks").is_empty() {
        wrong(own.at, format!("the rule \"{}\" names no network whose phones it is for", key.as_str()));
    }
    for (text, at) in texts("models") {
        if let Some(message) = pattern(text) {
            wrong(at, message);
        }
    }
    let mut accounts = None;
    if let Some(node) = own.get("numbers")
        && let Some(text) = node.text()
    {
        match numbers(text) {
            Ok(numbers) => {
                accounts = Some(numbers.into_iter().map(|number| Account { number, line: None }).collect::<Vec<_>>());
            }
            Err(message) => wrong((node.line, node.column), message),
        }
    }
    if let Some(node) = own.get("accounts").filter(|node| !matches!(node.value, Value::Null)) {
        if accounts.is_some() {
            let message = "\"accounts\" and \"numbers\" are two ways to say the same; write one of them";
            wrong((node.line, node.column), message.to_owned());
        }
        let mut written = Vec::new();
        for line in list("accounts") {
            match line.get("number").and_then(Node::text) {
                Some(number) => written.push(Account { number: number.into(), line: Some(line.clone()) }),
                None => wrong((line.line, line.column), "an account needs \"number\"".to_owned()),
            }
        }
        accounts = Some(written);
    }
    let mut seen = HashSet::new();
    for account in accounts.iter().flatten().filter(|account| !seen.insert(account.number.clone())) {
        let at = account.line.as_ref().map_or(own.at, |line| (line.line, line.column));
        wrong(at, format!("number \"{}\" is in the rule \"{}\" twice", account.number, key.as_str()));
    }
    if accounts.as_ref().is_some_and(|accounts| accounts.len() > ACCOUNTS) {
        wrong(own.at, format!("the rule \"{}\" has more than {ACCOUNTS} accounts", key.as_str()));
    }
    let until = own.get("until").and_then(|node| Some((node.text()?, (node.line, node.column))));
    let until = until.and_then(|(text, at)| text.parse::<Day>().map_err(|message| wrong(at, message)).ok());
    // What the rule must have and has not was told by its shape.
    let profile = own.reference("profile").filter(|_| problems.len() == before)?;
    let limit = own.get("limit").and_then(Node::integer).and_then(|limit| u32::try_from(limit).ok());
    let models = texts("models").map(|(text, _)| text.into()).collect();
    Some(Rule {
        name: key.as_str().into(),
        file: file.clone(),
        line: own.at.0,
        column: own.at.1,
        vendor: own.text("vendor").map(|vendor| vendor_id(&vendor).into()),
        models,
        site: own.reference("site"),
        networks,
        profile,
        accounts,
        until,
        limit,
    })
}

/// `200-299, 0350`: ranges and single numbers. Zeros in front are part of a number.
fn numbers(text: &str) -> Result<Vec<Box<str>>, String> {
    let wrong = |part: &str| {
        let shown: String = part.chars().take(40).collect();
        format!(
            "\"{shown}\" is no range of numbers: write the first and the last, as in 200-299, and commas between several"
        )
    };
    let mut numbers: Vec<Box<str>> = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').map_or((part, part), |(first, last)| (first.trim(), last.trim()));
        let number = |text: &str| {
            let fits = (1..=18).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit());
            text.parse::<u64>().ok().filter(|_| fits).ok_or_else(|| wrong(part))
        };
        let (from, to) = (number(first)?, number(last)?);
        let padded = first.starts_with('0') && first.len() > 1;
        if to < from || (padded && last.len() != first.len()) {
            return Err(wrong(part));
        }
        if (to - from) as usize >= ACCOUNTS - numbers.len().min(ACCOUNTS) {
            return Err(format!("\"{part}\" makes more than {ACCOUNTS} numbers for one rule"));
        }
        let width = if padded { first.len() } else { 0 };
        numbers.extend((from..=to).map(|number| format!("{number:0width$}").into()));
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_numbers_as_people_write_them() {
        let of = |text| numbers(text).map(|numbers| numbers.join(" "));
        assert_eq!(of("98-101").unwrap(), "98 99 100 101");
        assert_eq!(of("0098-0101, 7").unwrap(), "0098 0099 0100 0101 7");
        for none in ["", "a-b", "9-1", "08-100", "1-2-3", "1-99999999999999999999", "1--2", "-5", "+49-50"] {
            assert!(of(none).unwrap_err().contains("no range of numbers"), "{none}: {:?}", of(none));
        }
        assert!(of("1-10000").is_ok() && of("1-10001").is_err() && of("1-9999,5-7").is_err());
        assert!(of("0-999999999999999999").unwrap_err().contains("more than 10000"));
    }
}

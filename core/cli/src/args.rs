//! The words of the command line: the one definition that parser, help, completions and man pages come from.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use provost_plugin::{MacAddr, Oui, model::Secret};
use provost_server::settings::{ForwardFile, Listen, LogFormat, SettingsFile};

use crate::dhcp::DhcpArgs;

/// A provisioning server for IP phones: hears them on the LAN, tells them where their configuration is, and serves it.
#[derive(Debug, Parser)]
#[command(name = "provost", version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where things are. What stands here comes before the environment, that before the settings file, and that before the defaults.
#[derive(Clone, Debug, Args)]
pub(crate) struct SettingsArgs {
    /// Settings file [default: provost.yaml, if there is one]
    #[arg(long, short, global = true, env = "PROVOST_SETTINGS", value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
    /// Directory that holds profiles/, templates/, overrides/, plugins/, phonebooks/, firmware/, assets/ and state/
    #[arg(long, global = true, env = "PROVOST_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    #[arg(long, global = true, env = "PROVOST_PROFILES", value_name = "DIR", help = "Profiles and devices")]
    pub(crate) profiles: Option<PathBuf>,
    #[arg(long, global = true, env = "PROVOST_TEMPLATES", value_name = "DIR", help = "Templates as shipped")]
    pub(crate) templates: Option<PathBuf>,
    #[arg(
        long,
        global = true,
        env = "PROVOST_OVERRIDES",
        value_name = "DIR",
        help = "The site's own templates, which win"
    )]
    pub(crate) overrides: Option<PathBuf>,
    /// Directory of plugins; may be given several times
    #[arg(long, global = true, env = "PROVOST_PLUGINS", value_name = "DIR", value_delimiter = ':')]
    pub(crate) plugins: Vec<PathBuf>,
    #[arg(long, global = true, env = "PROVOST_ASSETS", value_name = "DIR", help = "Files served as they are")]
    pub(crate) assets: Option<PathBuf>,
    #[arg(
        long,
        global = true,
        env = "PROVOST_PHONEBOOKS",
        value_name = "DIR",
        help = "Lists of people, for phones of all vendors"
    )]
    pub(crate) phonebooks: Option<PathBuf>,
    #[arg(
        long,
        global = true,
        env = "PROVOST_FIRMWARE",
        value_name = "DIR",
        help = "Firmware, with its firmware.yaml"
    )]
    pub(crate) firmware: Option<PathBuf>,
    #[arg(long, global = true, env = "PROVOST_STATE", value_name = "DIR", help = "What the server itself keeps")]
    pub(crate) state: Option<PathBuf>,
    #[arg(
        long,
        global = true,
        env = "PROVOST_LOG_FORMAT",
        value_name = "FORMAT",
        help = "How the log is written [default: human]"
    )]
    pub(crate) log_format: Option<LogFormatArg>,
    /// What the log holds: error, warn, info, debug, trace, or a filter such as info,provost_server=debug [default: info]
    #[arg(long, global = true, env = "PROVOST_LOG", value_name = "LEVEL")]
    pub(crate) log: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormatArg {
    Human,
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ListenArg {
    Auto,
    Raw,
    Udp,
}

impl From<ListenArg> for Listen {
    fn from(listen: ListenArg) -> Listen {
        match listen {
            ListenArg::Auto => Listen::Auto,
            ListenArg::Raw => Listen::Raw,
            ListenArg::Udp => Listen::Udp,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Hear phones and serve them, until stopped; SIGHUP looks at the disk again
    Serve(ServeArgs),
    /// Say everything that is wrong with settings, profiles, phonebooks, firmware, templates and plugins, without serving
    Check {
        /// One JSON object instead of lines
        #[arg(long)]
        json: bool,
    },
    /// Look for what stands between phones and this server on this machine and its network, and say what to do; nothing is changed
    Doctor(DoctorArgs),
    /// Print a file as a phone would get it; passwords included
    Render(RenderArgs),
    /// Say why: who a phone is, which plugin and file answer, and where each value comes from
    Explain(ExplainArgs),
    /// Play phones: announce, fetch, and show what they got
    Simulate(SimulateArgs),
    /// Hear phones in a subnet beyond a router for a server elsewhere, which answers them through this
    Relay(RelayArgs),
    /// Print what a DHCP server has to be told, so that phones find this server where multicast does not reach
    Dhcp(DhcpArgs),
    /// The plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// The phones, as a running server sees them
    Devices(DevicesArgs),
    /// Enrol a phone, on a running server
    Approve(ApproveArgs),
    /// Change what a phone is, on a running server: profile, site, name or first line; one that is not enrolled is enrolled with that
    Assign(ApproveArgs),
    /// Make phones fetch again, through a running server: one at once, many as a roll-out
    Resync(ResyncArgs),
    /// Let a phone have its files that cannot show what it has to show, through a running server: the first address that asks gets them
    Open {
        /// The phone
        mac: MacAddr,
        /// For how long
        #[arg(long, default_value_t = 30)]
        minutes: u32,
        /// Close it again
        #[arg(long, conflicts_with = "minutes")]
        close: bool,
        #[command(flatten)]
        server: AdminArgs,
    },
    /// Make every token of a phone worthless, through a running server
    Revoke {
        /// The phone
        mac: MacAddr,
        #[command(flatten)]
        server: AdminArgs,
    },
    /// Who is locked out by a running server, for having asked for much in vain
    Lockouts {
        /// Let this address, or network, in again
        #[arg(long)]
        pardon: Option<String>,
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: AdminArgs,
    },
    /// The roll-outs of a running server, or one of them with its phones
    Rollouts {
        /// Number of a roll-out
        id: Option<u64>,
        /// Tell no further phone
        #[arg(long, requires = "id", conflicts_with = "resume")]
        cancel: bool,
        /// Go on in spite of the phones that failed
        #[arg(long, requires = "id")]
        resume: bool,
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: AdminArgs,
    },
    /// What a change to a file would come to for the phones, asked of a running server; nothing is written
    Diff {
        /// The file as the server names it: profiles/office.yaml, templates/acme/desk.xml.j2
        file: String,
        /// The file as it would be; `-` is what comes in
        new: PathBuf,
        /// Show the differences for this phone [default: the first one that would change]
        #[arg(long)]
        mac: Option<MacAddr>,
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: AdminArgs,
    },
    /// Put another phone into the place of one, on a running server
    Swap {
        mac: MacAddr,
        /// MAC of the phone that takes its place
        to: MacAddr,
        #[command(flatten)]
        server: AdminArgs,
    },
    /// Enrol all phones of a file, or none, on a running server
    Import(ImportArgs),
    /// Print all phones of a running server as CSV or YAML; passwords included
    Export {
        #[arg(long, value_enum, default_value_t = ExportForm::Csv)]
        form: ExportForm,
        #[command(flatten)]
        server: AdminArgs,
    },
    /// What a phone was seen doing, as a running server knows it
    History {
        mac: MacAddr,
        /// One JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: AdminArgs,
    },
    /// Keys with which programs ask a running server
    #[command(subcommand)]
    Key(KeyCommand),
    /// Passwords, kept beside the profiles and not in them; works on files, and a running server takes up what changes
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Certificates for HTTPS, of an authority of your own; a running server takes them up by itself
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Print the JSON Schema of a file, for editors
    Schema {
        #[arg(value_enum, default_value_t = SchemaOf::Profile)]
        of: SchemaOf,
    },
    /// Print a completion script
    Completions { shell: Shell },
    /// Write the man pages
    Man {
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ExportForm {
    /// A row for each account
    Csv,
    /// Everything that a device's section says
    Yaml,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ImportForm {
    /// A row for each account: mac,label,profile,number,password,…
    Csv,
    /// A profile file with devices
    Yaml,
    /// wazo-provd's devices and configs as JSON
    Wazo,
    /// The CSV of FusionPBX's devices
    Fusionpbx,
    /// A tar of phones' files as another server wrote them; the same as a directory
    Files,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Watch this phone boot: each step as it comes, and then which one is missing
    #[arg(long, value_name = "MAC")]
    pub(crate) watch: Option<MacAddr>,
    /// How long nothing has to be heard of a phone that is watched before it is said what is missing
    #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "watch")]
    pub(crate) quiet: u64,
    /// Ask the DHCP servers on this interface what they tell phones; it takes no address
    #[arg(long, value_name = "INTERFACE", conflicts_with = "watch")]
    pub(crate) dhcp: Option<String>,
    /// What to say to them that we are (option 60): some tell phones of different vendors different things
    #[arg(long, value_name = "TEXT", requires = "dhcp")]
    pub(crate) class: Option<String>,
    /// Listen for IGMP queries too, without which switches that snoop cut the group off: no longer than this, and than it takes to hear
    /// one on each interface; without a number a little longer than the 125 s at which queriers ask
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "130", conflicts_with_all = ["watch", "dhcp"])]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) listen: Option<u64>,
    /// One JSON object instead of lines
    #[arg(long, conflicts_with = "watch")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file, or a directory of phones' files as another server wrote them; - is standard input
    #[arg(value_name = "FILE|DIR")]
    pub(crate) file: PathBuf,
    /// What it is [default: what it looks like]
    #[arg(long, value_enum)]
    pub(crate) form: Option<ImportForm>,
    /// Look at everything, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Of phones' files: keep settings that have no field of ours as raw settings of the vendor
    #[arg(long)]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) server: AdminArgs,
}

/// Which server is asked.
#[derive(Clone, Debug, Args)]
pub(crate) struct AdminArgs {
    /// Where the server has its door for people [default: as the settings say]
    #[arg(long, env = "PROVOST_ADMIN", value_name = "ADDRESS:PORT")]
    pub(crate) admin: Option<SocketAddr>,
    /// PEM file with the certificate that it shows, if it is asked over TLS [default: that of https, where admin.tls is set]
    #[arg(long, env = "PROVOST_ADMIN_CERTIFICATE", value_name = "FILE")]
    pub(crate) admin_certificate: Option<PathBuf>,
    /// File with the key to it [default: state/admin.key]
    #[arg(long, env = "PROVOST_ADMIN_KEY", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DevicesArgs {
    /// Only phones with this in MAC, name, vendor, model, firmware, profile or address
    pub(crate) search: Option<String>,
    /// Only phones of this standing: pending, ignored, enrolled or disabled
    #[arg(long, value_name = "STANDING")]
    pub(crate) standing: Option<String>,
    /// Only phones that have come so far: never_seen, never_fetched, fetching, in_step, out_of_date, stuck or gone
    #[arg(long, value_name = "STAGE")]
    pub(crate) progress: Option<String>,
    /// Only phones of this vendor
    #[arg(long, value_name = "VENDOR")]
    pub(crate) vendor: Option<String>,
    /// Show them again whenever something changes, until stopped
    #[arg(long)]
    pub(crate) watch: bool,
    /// One JSON array
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ResyncArgs {
    /// The phones
    #[arg(required_unless_present_any = ["progress", "profile", "vendor", "all"])]
    pub(crate) macs: Vec<MacAddr>,
    /// Every enrolled phone that has come so far, as `provost devices` says it: out_of_date
    #[arg(long, conflicts_with = "macs")]
    pub(crate) progress: Option<String>,
    /// Every enrolled phone with this profile
    #[arg(long, conflicts_with = "macs")]
    pub(crate) profile: Option<String>,
    /// Every enrolled phone of this vendor
    #[arg(long, conflicts_with = "macs")]
    pub(crate) vendor: Option<String>,
    /// Every enrolled phone
    #[arg(long, conflicts_with_all = ["macs", "progress", "profile", "vendor"])]
    pub(crate) all: bool,
    /// Restart them, and not only fetch again
    #[arg(long)]
    pub(crate) reboot: bool,
    /// Phones that are told in a minute [default: as the settings say]
    #[arg(long)]
    pub(crate) per_minute: Option<u32>,
    /// Stop when so many have failed; 0 is never [default: as the settings say]
    #[arg(long)]
    pub(crate) stop_after: Option<u32>,
    /// Quiet hours do not count
    #[arg(long)]
    pub(crate) regardless: bool,
    #[command(flatten)]
    pub(crate) server: AdminArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ApproveArgs {
    pub(crate) mac: MacAddr,
    /// Profile [default: the one whose match fits]
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    #[arg(long, value_name = "NAME", help = "Site")]
    pub(crate) site: Option<String>,
    /// A name for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    /// Number of its account
    #[arg(long, value_name = "NUMBER")]
    pub(crate) number: Option<String>,
    #[arg(long, value_name = "TEXT", help = "Name that the account shows to others")]
    pub(crate) display_name: Option<String>,
    /// File with the password of its account; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) server: AdminArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ServeArgs {
    /// Answer every phone with this URL and serve nothing: {mac}, {MAC}, {model}, {vendor} and {firmware} are filled in
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// This server's URL as phones reach it [default: the address that heard them]
    #[arg(long, env = "PROVOST_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<String>,
    /// Address and port for HTTP [default: 0.0.0.0:8080]
    #[arg(long, env = "PROVOST_HTTP", value_name = "ADDRESS:PORT")]
    pub(crate) http: Option<SocketAddr>,
    /// Serve over HTTPS too, at this address and port
    #[arg(long, env = "PROVOST_HTTPS", value_name = "ADDRESS:PORT")]
    pub(crate) https: Option<SocketAddr>,
    /// Address and port for TFTP; address 0.0.0.0 is every address of this machine [default: 0.0.0.0:69]
    #[arg(long, env = "PROVOST_TFTP", value_name = "ADDRESS:PORT")]
    pub(crate) tftp: Option<SocketAddr>,
    /// Interface to hear phones on; may be given several times [default: all]
    #[arg(long, short, env = "PROVOST_INTERFACES", value_name = "NAME", value_delimiter = ',')]
    pub(crate) interface: Vec<String>,
    /// How the group is heard [default: auto]
    #[arg(long, env = "PROVOST_LISTEN", value_enum)]
    pub(crate) listen: Option<ListenArg>,
    /// Address and port for people: API and metrics [default: 127.0.0.1:8081]
    #[arg(long, env = "PROVOST_ADMIN", value_name = "ADDRESS:PORT")]
    pub(crate) admin: Option<SocketAddr>,
    /// Do not hear phones
    #[arg(long)]
    pub(crate) no_pnp: bool,
    /// Serve nothing over HTTP
    #[arg(long)]
    pub(crate) no_http: bool,
    /// Serve nothing over TFTP
    #[arg(long)]
    pub(crate) no_tftp: bool,
    /// No door for people
    #[arg(long)]
    pub(crate) no_admin: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Whence {
    /// Address that the phone asks from; decides which network's settings apply
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) from: Option<IpAddr>,
    /// Address of this server that the phone speaks to
    #[arg(long, value_name = "ADDRESS", default_value = "192.0.2.1")]
    pub(crate) local: IpAddr,
    /// What the phone would put into its User-Agent
    #[arg(long, value_name = "TEXT")]
    pub(crate) user_agent: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RenderArgs {
    pub(crate) mac: MacAddr,
    /// Name of the file; without it, every file that this phone may fetch
    pub(crate) file: Option<String>,
    /// Write the files into this directory instead of printing them
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// As it is before it is encrypted for the phone (`provisioning.encryption`)
    #[arg(long)]
    pub(crate) plain: bool,
    #[command(flatten)]
    pub(crate) whence: Whence,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A MAC, a path that a phone asks for, or a file with a captured SUBSCRIBE (.sip)
    pub(crate) what: String,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) whence: Whence,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RelayArgs {
    /// The server; the port is its pnp.relay.port [default port: 5077]
    #[arg(long, value_name = "SERVER[:PORT]")]
    pub(crate) to: String,
    /// File with the secret that the server has under pnp.relay.keys; `openssl rand -base64 32` makes one
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Where to hear phones; may be given several times [default: every interface that is up and can do multicast]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) interface: Vec<String>,
    /// How to hear the group [default: raw where that is allowed, else udp]
    #[arg(long, value_enum, value_name = "HOW")]
    pub(crate) listen: Option<ListenArg>,
    /// The user that it becomes where root starts it
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SimulateArgs {
    /// Vendors to play, in turns [default: all that say how]
    #[arg(long, short, value_name = "VENDOR", value_delimiter = ',')]
    pub(crate) vendor: Vec<String>,
    /// Number of phones
    #[arg(long, short, default_value_t = 1)]
    pub(crate) count: u32,
    /// Number of the first phone, from which MACs are made
    #[arg(long, default_value_t = 1)]
    pub(crate) first: u32,
    /// Play this MAC instead of made-up ones; its prefix chooses the vendor
    #[arg(long, conflicts_with_all = ["count", "first"])]
    pub(crate) mac: Option<MacAddr>,
    /// Fetch over this, whatever the URL says
    #[arg(long, value_enum)]
    pub(crate) door: Option<DoorArg>,
    /// Own address to send from, one or several; decides the interface [default: chosen by the routing table]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub(crate) source: Vec<std::net::Ipv4Addr>,
    /// Phones at the same time
    #[arg(long, default_value_t = 64)]
    pub(crate) at_once: usize,
    /// How often a phone that got nothing boots again
    #[arg(long, default_value_t = 3)]
    pub(crate) boots: u32,
    /// What DHCP told the phones: fetch from there without announcing. Without it, only those vendors are played that announce themselves
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Where to announce
    #[arg(long, default_value = "224.0.1.75:5060", value_name = "ADDRESS:PORT")]
    pub(crate) group: std::net::SocketAddrV4,
    /// Stay so many seconds once it has its configuration, and obey one NOTIFY that tells it to fetch again
    #[arg(long, value_name = "SECONDS", conflicts_with = "count")]
    pub(crate) stay: Option<u64>,
    /// Obey no NOTIFY before it has proved the password of --credentials, by Digest with this hash [default hash: md5; stays 60 s
    /// unless --stay says otherwise]
    #[arg(
        long,
        value_enum,
        value_name = "HASH",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "md5",
        requires = "credentials",
        conflicts_with = "count"
    )]
    pub(crate) challenge: Option<HashArg>,
    /// User and password that --challenge asks for, as the phone has them of its line
    #[arg(long, env = "PROVOST_CREDENTIALS", hide_env_values = true, value_name = "USER:PASSWORD")]
    pub(crate) credentials: Option<Credentials>,
    /// Write what they got into this directory
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Print an inventory (a profile file) for these phones instead of playing them
    #[arg(long)]
    pub(crate) inventory: bool,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum HashArg {
    Md5,
    Sha256,
}

#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: Secret,
}

impl FromStr for Credentials {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Credentials, &'static str> {
        match text.split_once(':') {
            Some((user, password)) if !user.is_empty() => {
                Ok(Credentials { user: user.to_owned(), password: Secret::new(password) })
            }
            _ => Err("they are written USER:PASSWORD"),
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DoorArg {
    Http,
    Tftp,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key, and print it: it is never shown again
    Add {
        /// For people: which program has it
        name: String,
        /// What it allows
        #[arg(long, value_enum)]
        scope: ScopeArg,
        /// The last day on which it is good, in UTC, as in 2027-12-31 [default: until it is removed]
        #[arg(long, value_name = "DAY")]
        expires: Option<String>,
        #[command(flatten)]
        server: AdminArgs,
    },
    /// Show which keys there are, without the keys
    List {
        /// One JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: AdminArgs,
    },
    /// Remove a key: it opens nothing from then on
    Remove {
        name: String,
        #[command(flatten)]
        server: AdminArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Keep a password under a name: what is typed unseen, or the one line that comes in
    Set { name: String },
    /// Show which names there are, and how many devices use each
    List {
        /// One JSON array
        #[arg(long)]
        json: bool,
    },
    /// Remove a name that nothing refers to
    Remove {
        name: String,
        /// Also while profiles refer to it: their phones keep what they have until the server is restarted, and get nothing then
        #[arg(long)]
        force: bool,
    },
    /// Make a good password, keep it under a name, and print it for the PBX
    Generate {
        #[arg(required_unless_present = "line", conflicts_with = "line")]
        name: Option<String>,
        /// For the first line of a device, which refers to it from then on
        #[arg(long, value_name = "MAC")]
        line: Option<MacAddr>,
        /// Letters and digits that every vendor's files can carry
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(8..=32))]
        length: u8,
    },
    /// Make the age identity that opens encrypted passwords, where there is none, and print for whom to encrypt
    Identity,
    /// Encrypt a password for a profile: what is typed unseen, or the one line that comes in
    Encrypt {
        /// For this recipient (age1…) instead of the identity here
        #[arg(long, value_name = "RECIPIENT")]
        recipient: Option<String>,
    },
    /// Take passwords out of profile files into the file of secrets, with a reference where each was: all of them or none
    Move {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Say what would be moved, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Show the passwords that were made for the pages of one phone
    ShowWeb {
        mac: MacAddr,
        /// One JSON array
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Make the authority; phones have to trust state/certs/ca.pem, which they can fetch as /ca.pem
    Init,
    /// Make the server's certificate, or make it anew before it ends
    Issue {
        /// Names and addresses that phones reach this server by [default: those of before, of this machine, and of public_url]
        names: Vec<String>,
    },
    /// Make a certificate with its key for a phone
    Client {
        mac: MacAddr,
        /// Where to write it [default: state/certs/clients/<mac>.pem]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Show what certificates there are: for whom, until when, and how to recognise them
    Show {
        /// One JSON array
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ScopeArg {
    /// To see everything but passwords
    Read,
    /// To make phones fetch again, and to ignore them
    Operate,
    /// Everything
    Admin,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// List the plugins that would be in service, and those that are refused with the reason
    List {
        #[arg(long)]
        json: bool,
    },
    /// Make the folder of a plugin for another vendor, ready to be filled in
    New(NewArgs),
    /// Say what is wrong with a plugin: what phones would run into, what leads nowhere, which fields its files honour
    Check {
        /// A vendor in service, or the folder of a plugin
        plugin: String,
        #[arg(long)]
        json: bool,
    },
    /// Replay the captured messages of a plugin's folder and compare its goldens, without a network
    Test {
        /// The folder of a plugin, or a vendor in service
        plugin: String,
        /// Make what comes out what is expected from now on
        #[arg(long)]
        update: bool,
    },
    /// Put a plugin into one file, to be passed on
    Pack {
        /// The folder of a plugin, or a vendor in service
        plugin: String,
        /// Name of the file [default: <id>-<version>.provost-plugin, here]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Try a packed plugin, and put it where a running server takes it up by itself
    Add {
        file: PathBuf,
        /// Replace a vendor that is installed, or claim phones that another one claims
        #[arg(long)]
        force: bool,
    },
    /// Open a library and say what it is; what the server does in a child process before it trusts one
    #[command(hide = true)]
    Probe { library: PathBuf },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct NewArgs {
    /// The vendor's name as people write it
    pub(crate) vendor: String,
    /// First digits of its phones' MAC addresses, 6 to 9; may be given several times
    #[arg(long, value_name = "DIGITS", value_delimiter = ',')]
    pub(crate) oui: Vec<Oui>,
    /// How its phones spell the vendor in the Event header of their SUBSCRIBE; may be given several times [default: the name in lower case]
    #[arg(long, value_name = "NAME")]
    pub(crate) announces: Vec<String>,
    /// A User-Agent as one of its phones sends it, with its MAC, model and firmware; or a regular expression that begins with ^
    #[arg(long, value_name = "TEXT")]
    pub(crate) user_agent: Vec<String>,
    /// Type designation of a model, as the phone writes it; may be given several times
    #[arg(long, value_name = "MODEL", value_delimiter = ',')]
    pub(crate) model: Vec<String>,
    /// Directory to make the folder in
    #[arg(long = "in", value_name = "DIR", default_value = ".")]
    pub(crate) within: PathBuf,
    /// A library in Rust with it, for what data cannot say
    #[arg(long)]
    pub(crate) library: bool,
    /// Where the SDK lies, for a library that is built against a checkout of Provost (its plugins/sdk)
    #[arg(long, value_name = "PATH", requires = "library")]
    pub(crate) sdk: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum SchemaOf {
    /// A file under profiles/
    Profile,
    /// provost.yaml
    Settings,
    /// vendor.yaml of a plugin
    Vendor,
    /// A list under phonebooks/
    Phonebook,
    /// firmware/firmware.yaml
    Firmware,
}

impl SettingsArgs {
    /// Lays these words over a settings file.
    pub(crate) fn lay_over(&self, file: &mut SettingsFile) {
        fn put<T: Clone>(place: &mut Option<T>, word: &Option<T>) {
            if word.is_some() {
                place.clone_from(word);
            }
        }
        // A path on the command line is meant from where the person stands, not from where the settings file lies.
        let here = |path: &Option<PathBuf>| {
            path.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()))
        };
        put(&mut file.data, &here(&self.data));
        put(&mut file.profiles, &here(&self.profiles));
        put(&mut file.templates, &here(&self.templates));
        put(&mut file.overrides, &here(&self.overrides));
        put(&mut file.assets, &here(&self.assets));
        put(&mut file.phonebooks, &here(&self.phonebooks));
        put(&mut file.firmware, &here(&self.firmware));
        put(&mut file.state, &here(&self.state));
        if !self.plugins.is_empty() {
            file.plugins = self.plugins.iter().filter_map(|path| here(&Some(path.clone()))).collect();
        }
        if let Some(format) = self.log_format {
            file.log.format = match format {
                LogFormatArg::Human => LogFormat::Human,
                LogFormatArg::Json => LogFormat::Json,
            };
        }
        put(&mut file.log.level, &self.log);
    }
}

impl ServeArgs {
    pub(crate) fn lay_over(&self, file: &mut SettingsFile) {
        if let Some(url) = &self.url {
            file.forward = vec![ForwardFile { url: url.clone(), vendor: None, network: None }];
        }
        if self.public_url.is_some() {
            file.public_url.clone_from(&self.public_url);
        }
        if let Some(http) = self.http {
            (file.http.address, file.http.port) = (http.ip(), http.port());
        }
        if let Some(https) = self.https {
            (file.https.enabled, file.https.address, file.https.port) = (true, https.ip(), https.port());
        }
        if let Some(tftp) = self.tftp {
            file.tftp.port = tftp.port();
            file.tftp.addresses = if tftp.ip().is_unspecified() { Vec::new() } else { vec![tftp.ip()] };
        }
        if !self.interface.is_empty() {
            file.pnp.interfaces.clone_from(&self.interface);
        }
        if let Some(listen) = self.listen {
            file.pnp.listen = listen.into();
        }
        if let Some(admin) = self.admin {
            (file.admin.address, file.admin.port) = (admin.ip(), admin.port());
        }
        file.admin.enabled &= !self.no_admin;
        file.pnp.enabled &= !self.no_pnp;
        file.http.enabled &= !self.no_http && self.url.is_none();
        file.https.enabled &= self.url.is_none();
        file.tftp.enabled &= !self.no_tftp && self.url.is_none();
    }
}

//! A plugin in service: the calls into it, and what keeps a bad one from hurting anybody else.
//!
//! Data is answered on the spot. A library is called on a worker of its own with a deadline: one that stalls costs the request that
//! called it, and the worker until it comes back. When all of its workers are stuck, the library is refused without a call, so that
//! a hopeless one costs nothing more.

use std::{
    borrow::Cow,
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    panic::AssertUnwindSafe,
    path::PathBuf,
    ptr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicIsize, AtomicU8, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, SystemTime},
};

use crossbeam_channel::{Receiver, Sender};
use provost_plugin::{
    Announced, Complaint, Phone, PluginError, Render, RenderedFile, Secret, Spec, TemplateFailure, Variables,
    abi::{self, Rendered},
    announce_by_data, complaints_by_data, no_url,
    spec::FileSpec,
    templates::{Bound, Source, Templates},
};
use tokio::sync::{Semaphore, oneshot};

use crate::{
    encryption,
    library::{Instance, OpenError, Reply},
    shelf::in_full,
};

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long one call into a library may take.
    pub deadline: Duration,
    /// Workers that one library may have.
    pub workers: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        // A render takes well under a millisecond. Two seconds is what a phone that waits for a TFTP packet still forgives.
        Limits { deadline: Duration::from_secs(2), workers: 16 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error(transparent)]
    Plugin(#[from] PluginError),
    #[error("the plugin panicked: {0}")]
    Panicked(String),
    #[error("the plugin did not answer within {} s", .0.as_secs_f32())]
    Overran(Duration),
    #[error("all {0} workers of the plugin are stuck in calls that never came back; mend or replace the library")]
    Stuck(usize),
    #[error("the plugin's answer makes no sense: {0}")]
    Nonsense(String),
    #[error("it is to be encrypted: {0}")]
    Key(String),
}

/// One vendor in service.
pub struct InService {
    pub id: String,
    pub spec: Arc<Spec>,
    pub templates: Arc<Templates>,
    /// The folder or library it came from.
    pub origin: PathBuf,
    /// The library, if it has one.
    pub library: Option<PathBuf>,
    /// Version of the library, if it has one.
    pub version: Option<String>,
    /// When the newest of its files changed.
    pub modified: SystemTime,
    /// When it was loaded as it is.
    pub since: SystemTime,
    pub(crate) fingerprint: String,
    code: Code,
}

enum Code {
    Data,
    Library {
        workers: Arc<Workers>,
        /// It has left a URL to the data, which it says for all phones.
        urls_by_data: AtomicBool,
    },
}

impl Code {
    fn library(instance: Instance, limits: Limits) -> Code {
        Code::Library { workers: Workers::new(instance, limits), urls_by_data: AtomicBool::new(false) }
    }
}

/// Beside a question that asks for no file there is nothing to render.
struct NoFile;

impl Render for NoFile {
    fn render(&self, template: &str, _: &Variables) -> Result<String, TemplateFailure> {
        let message = "a template can be rendered only while a file is".into();
        Err(TemplateFailure { template: template.to_owned(), line: 0, message })
    }
}

/// Renders, and remembers what was asked for.
struct Noting {
    bound: Arc<Bound>,
    noted: Arc<Mutex<BTreeSet<String>>>,
}

impl Render for Noting {
    fn render(&self, template: &str, variables: &Variables) -> Result<String, TemplateFailure> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).insert(template.to_owned());
        self.bound.render(template, variables)
    }
}

impl InService {
    /// Tells two versions of it apart: the beginning of the digest of its library and `vendor.yaml`, and of that of its templates.
    pub fn fingerprint(&self) -> String {
        let (code, templates) = self.fingerprint.split_at(self.fingerprint.len() / 2);
        [code, templates].map(|digest| digest.chars().take(8).collect::<String>()).join("-")
    }

    /// The whole of both digests: what has the same makes the same.
    pub fn whole_fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(crate) fn data(
        spec: Spec,
        templates: Templates,
        origin: PathBuf,
        modified: SystemTime,
        fingerprint: String,
    ) -> InService {
        InService {
            id: spec.id(),
            spec: Arc::new(spec),
            templates: Arc::new(templates),
            origin,
            library: None,
            version: None,
            modified,
            since: SystemTime::now(),
            fingerprint,
            code: Code::Data,
        }
    }

    pub(crate) fn with_library(self, path: PathBuf, instance: Instance, version: String, limits: Limits) -> InService {
        let code = Code::library(instance, limits);
        InService { library: Some(path), version: Some(version), code, ..self }
    }

    pub fn is_library(&self) -> bool {
        matches!(self.code, Code::Library { .. })
    }

    /// Whether [`InService::announce`] asks the library, and so may take its time.
    pub fn words_urls(&self) -> bool {
        matches!(&self.code, Code::Library { urls_by_data, .. } if !urls_by_data.load(Ordering::Relaxed))
    }

    /// Does work that asks this library where it may take its time: on one of the library's threads, with the deadline of a call.
    /// Without a library it is done here and now.
    pub async fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, CallError> {
        match &self.code {
            Code::Data => Ok(work()),
            Code::Library { workers, .. } => workers.aside(work).await,
        }
    }

    /// The URL for the NOTIFY. Blocks while a library answers, up to the deadline.
    pub fn announce(&self, announced: &Announced) -> Result<String, CallError> {
        match &self.code {
            Code::Library { workers, urls_by_data } if !urls_by_data.load(Ordering::Relaxed) => {
                match workers.ask(&abi::Request::Announce(Cow::Borrowed(announced)), Arc::new(NoFile))? {
                    Some(bytes) => {
                        let url = read::<abi::Url>(&bytes)?.url;
                        no_url(&url).map_or(Ok(url), |why| Err(CallError::Nonsense(why)))
                    }
                    None => {
                        urls_by_data.store(true, Ordering::Relaxed);
                        Ok(announce_by_data(&self.spec, announced)?)
                    }
                }
            }
            Code::Data | Code::Library { .. } => Ok(announce_by_data(&self.spec, announced)?),
        }
    }

    /// The same templates and the same code over other data, to see whether that makes a difference.
    pub(crate) fn over(&self, spec: Spec) -> Result<InService, OpenError> {
        let code = match &self.code {
            Code::Data => Code::Data,
            Code::Library { workers, .. } => Code::library(workers.instance.another(&in_full(&spec))?, workers.limits),
        };
        let mut sources: Vec<Source> = Vec::new();
        let all: BTreeMap<_, _> = self.templates.sources().map(|(name, shown, text)| (name, (shown, text))).collect();
        for (name, (shown, text)) in &all {
            let mut add = |name: &str, is_override: bool| {
                sources.push(Source { name: name.into(), shown: (*shown).into(), text: text.clone(), is_override });
            };
            match name.strip_prefix("@shipped/") {
                Some(shipped) => add(shipped, false),
                None if name.starts_with('@') => add(name, false),
                None if all.get(format!("@shipped/{name}").as_str()).is_none_or(|(of, _)| of != shown) => {
                    add(name, true)
                }
                None => {}
            }
        }
        let templates = Templates::compile(&spec, &sources)
            .map_err(|failures| OpenError::Refused(failures.iter().map(ToString::to_string).collect()))?;
        Ok(InService {
            id: self.id.clone(),
            spec: Arc::new(spec),
            templates: Arc::new(templates),
            origin: self.origin.clone(),
            library: self.library.clone(),
            version: self.version.clone(),
            modified: self.modified,
            since: self.since,
            fingerprint: self.fingerprint.clone(),
            code,
        })
    }

    /// The bytes of the `index`-th file of the spec. Blocks while a library answers, up to the deadline.
    pub fn render(&self, index: usize, phone: &Phone) -> Result<RenderedFile, CallError> {
        self.render_noting(index, phone, None)
    }

    /// The same, and the names of the templates that a library asks for meanwhile.
    pub(crate) fn render_noting(
        &self,
        index: usize,
        phone: &Phone,
        noted: Option<&Arc<Mutex<BTreeSet<String>>>>,
    ) -> Result<RenderedFile, CallError> {
        let file: &FileSpec = &self.spec.files[index];
        let rendered = self.render_plain(index, file, phone, noted)?;
        encryption::seal(self.spec.encryption.as_ref(), file, phone, rendered)
    }

    fn render_plain(
        &self,
        index: usize,
        file: &FileSpec,
        phone: &Phone,
        noted: Option<&Arc<Mutex<BTreeSet<String>>>>,
    ) -> Result<RenderedFile, CallError> {
        let phone = &*self.fitting(phone);
        let bound = Arc::new(self.templates.bind(file, phone));
        let Code::Library { workers, .. } = &self.code else {
            return Ok(bound.finish(&Variables::new())?);
        };
        let request = abi::Request::Render {
            file: index,
            name: file.name.to_string(),
            template: file.template.clone(),
            phone: Cow::Borrowed(phone),
        };
        let templates: Arc<dyn Render + Send + Sync> = match noted {
            Some(noted) => Arc::new(Noting { bound: Arc::clone(&bound), noted: Arc::clone(noted) }),
            None => Arc::clone(&bound) as _,
        };
        let Some(bytes) = workers.ask(&request, templates)? else {
            return Ok(bound.finish(&Variables::new())?);
        };
        Ok(match read(&bytes)? {
            Rendered::ByTemplate { variables } => bound.finish(&variables)?,
            Rendered::Text { content_type, text } => RenderedFile { body: text.into_bytes(), content_type },
            Rendered::Bytes { content_type, bytes } => RenderedFile { body: bytes, content_type },
        })
    }

    /// The phone without raw settings whose names are none: they are reported, and would break the file.
    fn fitting<'a>(&self, phone: &'a Phone) -> Cow<'a, Phone> {
        let Some(pattern) = &self.spec.raw_name else { return Cow::Borrowed(phone) };
        let fits = |name: &String| pattern.0.is_match(name);
        if phone.raw.keys().all(fits) {
            return Cow::Borrowed(phone);
        }
        let mut phone = phone.clone();
        phone.raw.retain(|name, _| fits(name));
        Cow::Owned(phone)
    }

    /// What `phone` asks for in vain.
    pub fn complaints(&self, phone: &Phone) -> Result<Vec<Complaint>, CallError> {
        match &self.code {
            Code::Data => Ok(complaints_by_data(&self.spec, phone)),
            Code::Library { workers, .. } => {
                match workers.ask(&abi::Request::Complaints { phone: Cow::Borrowed(phone) }, Arc::new(NoFile))? {
                    Some(bytes) => read(&bytes),
                    None => Ok(complaints_by_data(&self.spec, phone)),
                }
            }
        }
    }
}

impl fmt::Debug for InService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InService")
            .field("id", &self.id)
            .field("origin", &self.origin)
            .field("library", &self.is_library())
            .finish()
    }
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, CallError> {
    // serde_json's messages quote at most a token of the input; what a plugin answers may hold a password all the same.
    serde_json::from_slice(bytes).map_err(|error| match error.line() {
        // JSON, but none of the forms that are asked for: words of ours, without a place.
        0 => CallError::Nonsense(error.to_string()),
        _ => CallError::Nonsense(format!(
            "not the JSON that was asked for (line {}, column {})",
            error.line(),
            error.column()
        )),
    })
}

type Job = Box<dyn FnOnce(&Instance) + Send>;

thread_local! {
    /// The instance whose worker this thread is.
    static WORKS_FOR: Cell<*const Instance> = const { Cell::new(ptr::null()) };
}

/// The threads on which one library is called. They are made as they are needed, and end with the plugin.
struct Workers {
    instance: Arc<Instance>,
    limits: Limits,
    jobs: Sender<Job>,
    queue: Receiver<Job>,
    alive: Arc<AtomicUsize>,
    /// Workers with nothing to do, less jobs that nobody has taken yet.
    idle: Arc<AtomicIsize>,
    /// Jobs that were given up and have not ended.
    overdue: Arc<AtomicUsize>,
    /// Who waits for one of these has no deadline yet.
    turns: Semaphore,
}

impl Workers {
    fn new(instance: Instance, limits: Limits) -> Arc<Workers> {
        let (jobs, queue) = crossbeam_channel::unbounded();
        Arc::new(Workers {
            instance: Arc::new(instance),
            limits,
            jobs,
            queue,
            alive: Arc::default(),
            idle: Arc::default(),
            overdue: Arc::default(),
            turns: Semaphore::new(limits.workers),
        })
    }

    /// The answer, or nothing where the library leaves it to the data.
    fn ask(
        &self,
        request: &abi::Request<'_>,
        templates: Arc<dyn Render + Send + Sync>,
    ) -> Result<Option<Vec<u8>>, CallError> {
        // The library gets the passwords in the clear, for it has to write them.
        let request =
            Secret::exposed(|| serde_json::to_vec(request)).map_err(|error| CallError::Nonsense(error.to_string()))?;
        let reply = if WORKS_FOR.get() == Arc::as_ptr(&self.instance) {
            // A worker that waited for another one would need two for one job.
            self.instance.call(&request, &*templates)
        } else {
            let (answer, answered) = mpsc::sync_channel(1);
            let job = self.give(move |instance| drop(answer.send(instance.call(&request, &*templates))))?;
            match answered.recv_timeout(self.limits.deadline) {
                Ok(reply) => reply,
                Err(mpsc::RecvTimeoutError::Disconnected) => Reply::Panicked(IN_THE_HOST.into()),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    job.give_up();
                    return Err(CallError::Overran(self.limits.deadline));
                }
            }
        };
        match reply {
            Reply::Answer(bytes) => Ok(Some(bytes)),
            Reply::ByData => Ok(None),
            Reply::Failed(bytes) => Err(match serde_json::from_slice(&bytes) {
                Ok(error) => CallError::Plugin(error),
                Err(_) => CallError::Nonsense("an error that cannot be read".into()),
            }),
            Reply::Panicked(message) => Err(CallError::Panicked(message)),
            Reply::Nonsense(what) => Err(CallError::Nonsense(what)),
        }
    }

    /// Has a worker do all of it, and waits without holding up a thread.
    async fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, CallError> {
        let _turn = self.turns.acquire().await;
        let (answer, answered) = oneshot::channel();
        let job = self.give(move |_| drop(answer.send(work())))?;
        match tokio::time::timeout(self.limits.deadline, answered).await {
            Ok(done) => done.map_err(|_| CallError::Panicked(IN_THE_HOST.into())),
            Err(_) => {
                job.give_up();
                Err(CallError::Overran(self.limits.deadline))
            }
        }
    }

    fn give(&self, work: impl FnOnce(&Instance) + Send + 'static) -> Result<Given, CallError> {
        let given = Given { stage: Arc::new(AtomicU8::new(OPEN)), overdue: Arc::clone(&self.overdue) };
        let (stage, overdue) = (Arc::clone(&given.stage), Arc::clone(&self.overdue));
        let job: Job = Box::new(move |instance| {
            // One that was given up while it was waiting its turn is not begun.
            if stage.load(Ordering::Acquire) == OPEN {
                // A panic is told by the end of whatever `work` was to answer with.
                let _ = std::panic::catch_unwind(AssertUnwindSafe(|| work(instance)));
            }
            if stage.swap(ENDED, Ordering::AcqRel) == GIVEN_UP {
                overdue.fetch_sub(1, Ordering::AcqRel);
            }
        });
        self.staff()?;
        self.jobs.send(job).map_err(|_| CallError::Stuck(self.limits.workers))?;
        Ok(given)
    }

    /// Sees to it that somebody takes the next job at once, or says that nobody ever will.
    fn staff(&self) -> Result<(), CallError> {
        if self.idle.fetch_sub(1, Ordering::AcqRel) > 0 {
            return Ok(());
        }
        if self.alive.fetch_add(1, Ordering::AcqRel) >= self.limits.workers {
            self.alive.fetch_sub(1, Ordering::AcqRel);
            // Busy is not stuck: then the job waits its turn within its own deadline.
            if self.overdue.load(Ordering::Acquire) < self.limits.workers {
                return Ok(());
            }
            self.idle.fetch_add(1, Ordering::AcqRel);
            return Err(CallError::Stuck(self.limits.workers));
        }
        let (queue, instance) = (self.queue.clone(), Arc::clone(&self.instance));
        let (alive, idle) = (Arc::clone(&self.alive), Arc::clone(&self.idle));
        let started = thread::Builder::new().name("plugin".into()).stack_size(2 << 20).spawn(move || {
            WORKS_FOR.set(Arc::as_ptr(&instance));
            loop {
                idle.fetch_add(1, Ordering::AcqRel);
                match queue.recv() {
                    Ok(job) => job(&instance),
                    // The plugin was replaced: its sender is gone.
                    Err(_) => break,
                }
            }
            alive.fetch_sub(1, Ordering::AcqRel);
        });
        started.map(drop).map_err(|error| {
            self.alive.fetch_sub(1, Ordering::AcqRel);
            self.idle.fetch_add(1, Ordering::AcqRel);
            CallError::Nonsense(format!("no thread can be had to call it: {error}"))
        })
    }
}

const IN_THE_HOST: &str = "in the host, while the plugin was called";

const OPEN: u8 = 0;
const ENDED: u8 = 1;
const GIVEN_UP: u8 = 2;

/// A job that was given to the workers.
struct Given {
    stage: Arc<AtomicU8>,
    overdue: Arc<AtomicUsize>,
}

impl Given {
    /// Nobody waits for it any more.
    fn give_up(self) {
        // Counted first, so that a late end finds its own entry to take back.
        self.overdue.fetch_add(1, Ordering::AcqRel);
        if self.stage.swap(GIVEN_UP, Ordering::AcqRel) == ENDED {
            self.overdue.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

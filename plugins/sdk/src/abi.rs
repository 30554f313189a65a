//! The C table between host and library. `provost_plugin.h` beside this crate says the same in C.
//!
//! Requests and answers are JSON text with a length. **Ownership:** a [`Slice`] is lent for the duration of the call and never kept; a
//! [`Buffer`] belongs to the side that made it and goes back to that side's `free`. **Trust:** a library runs in the server's process
//! and can do what the server can; the table guards against mistakes, not against malice. **Versions:** `ABI_MAJOR` must be equal on
//! both sides; a higher `ABI_MINOR` only appends to the tables, whose `size` tells what is there.

use std::{borrow::Cow, ffi::c_void, panic::AssertUnwindSafe, ptr, slice};

use serde::{Deserialize, Serialize};

use crate::{
    model::Phone,
    plugin::{Announced, Complaint, Plugin, PluginError, Render, RenderedFile, TemplateFailure, Variables},
    spec::Spec,
};

/// `PROVOST\0`, read as a little-endian number.
pub const MAGIC: u64 = u64::from_le_bytes(*b"PROVOST\0");
pub const ABI_MAJOR: u32 = 1;
pub const ABI_MINOR: u32 = 0;
/// The one symbol that a library exports: `const provost_plugin *provost_plugin_v1(void)`.
pub const ENTRY: &[u8] = b"provost_plugin_v1\0";
/// Flag: a panic inside the library is caught at its border. The host refuses a library without it.
pub const UNWINDS: u32 = 1;

/// The answer is in the reply.
pub const OK: i32 = 0;
/// The reply holds a [`PluginError`].
pub const FAILED: i32 = 1;
/// The plugin panicked; the reply holds its message as plain text.
pub const PANICKED: i32 = 2;
/// The library has nothing of its own to say; the host answers by `vendor.yaml`.
pub const BY_DATA: i32 = 3;
/// The request could not be read.
pub const NOT_UNDERSTOOD: i32 = 4;

/// Bytes lent for the duration of a call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    pub ptr: *const u8,
    pub len: usize,
}

/// Bytes handed over; given back to the maker's `free`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    pub ptr: *mut u8,
    pub len: usize,
}

impl Slice {
    pub fn lend(bytes: &[u8]) -> Slice {
        Slice { ptr: bytes.as_ptr(), len: bytes.len() }
    }

    /// # Safety
    /// `ptr` must be valid for `len` bytes for as long as the answer is used, or `len` be 0.
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.len == 0 || self.ptr.is_null() {
            return &[];
        }
        // SAFETY: the caller vouches for ptr and len.
        unsafe { slice::from_raw_parts(self.ptr, self.len) }
    }
}

impl Buffer {
    pub const EMPTY: Buffer = Buffer { ptr: ptr::null_mut(), len: 0 };

    /// Hands bytes over; they come back through [`free`].
    pub fn hand_over(bytes: Vec<u8>) -> Buffer {
        if bytes.is_empty() {
            return Buffer::EMPTY;
        }
        let bytes = Box::leak(bytes.into_boxed_slice());
        Buffer { ptr: bytes.as_mut_ptr(), len: bytes.len() }
    }
}

/// Gives back what this side handed over.
///
/// # Safety
/// `buffer` must come from [`Buffer::hand_over`] in this very library or program, and must not be used again.
pub unsafe extern "C" fn free(buffer: Buffer) {
    if !buffer.ptr.is_null() {
        // SAFETY: hand_over leaked a boxed slice of exactly this pointer and length.
        drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(buffer.ptr, buffer.len)) });
    }
}

/// What the host offers to a library during one call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HostTable {
    pub size: usize,
    pub context: *mut c_void,
    /// Renders a template for the phone and file that are asked for. Request: `{"template": …, "variables": {…}}`, where `variables` come
    /// beside `phone` and `file`. Reply: the text as it is, or with `FAILED` a [`TemplateFailure`]. To be called only during the call
    /// that lent this table, from the thread that it came on, and only when that call asks for a file.
    pub render: unsafe extern "C" fn(context: *mut c_void, request: Slice, reply: *mut Buffer) -> i32,
    /// Takes back what `render` replied.
    pub free: unsafe extern "C" fn(buffer: Buffer),
}

/// What a library is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PluginTable {
    pub magic: u64,
    pub abi_major: u32,
    pub abi_minor: u32,
    pub size: usize,
    pub flags: u32,
    /// Reply: [`Description`]. Called once, before `create`.
    pub describe: unsafe extern "C" fn(reply: *mut Buffer) -> i32,
    /// Makes an instance from the text of a `vendor.yaml`: the library's own, or the one in the plugin's folder, which comes first.
    /// With `FAILED` the reply holds a [`PluginError`] and there is no instance.
    pub create: unsafe extern "C" fn(vendor_yaml: Slice, instance: *mut *mut c_void, reply: *mut Buffer) -> i32,
    /// Answers a [`Request`]. May be called from several threads at once.
    pub call:
        unsafe extern "C" fn(instance: *mut c_void, host: *const HostTable, request: Slice, reply: *mut Buffer) -> i32,
    /// Ends an instance; no call into it is under way, and none will follow.
    pub destroy: unsafe extern "C" fn(instance: *mut c_void),
    /// Takes back what this library replied.
    pub free: unsafe extern "C" fn(buffer: Buffer),
}

/// What a library says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    /// The `vendor.yaml` it was built with.
    pub vendor_yaml: String,
    /// Version of the library, for people.
    #[serde(default)]
    pub version: String,
    /// Templates it carries inside, by name; files on disk come before them.
    #[serde(default)]
    pub templates: std::collections::BTreeMap<String, String>,
}

/// A question to an instance.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Request<'a> {
    /// Reply: `{"url": …}`
    Announce(Cow<'a, Announced>),
    /// Reply: [`Rendered`]. `file` counts the entries of `files` in `vendor.yaml` from 0, `name` is that entry's name.
    Render { file: usize, name: String, template: Option<String>, phone: Cow<'a, Phone> },
    /// Reply: a list of [`Complaint`].
    Complaints { phone: Cow<'a, Phone> },
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Url {
    pub url: String,
}

/// How a file comes to be: with `variables`, by its own template, which sees them beside `phone` and `file`; else it is this, `text`
/// where it is UTF-8, `bytes` as numbers where it is not.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged, expecting = "neither variables, nor text or bytes with a content type")]
pub enum Rendered {
    ByTemplate { variables: Variables },
    Text { content_type: String, text: String },
    Bytes { content_type: String, bytes: Vec<u8> },
}

impl From<RenderedFile> for Rendered {
    fn from(file: RenderedFile) -> Rendered {
        let content_type = file.content_type;
        match String::from_utf8(file.body) {
            Ok(text) => Rendered::Text { content_type, text },
            Err(error) => Rendered::Bytes { content_type, bytes: error.into_bytes() },
        }
    }
}

/// A plugin as its library exports it. Implemented by [`export_plugin!`](crate::export_plugin).
pub trait Exported {
    type Plugin: Plugin + From<Spec>;
    const VENDOR_YAML: &'static str;
    const VERSION: &'static str;
}

/// The table of an exported plugin.
pub const fn table<E: Exported>() -> PluginTable {
    PluginTable {
        magic: MAGIC,
        abi_major: ABI_MAJOR,
        abi_minor: ABI_MINOR,
        size: size_of::<PluginTable>(),
        flags: if cfg!(panic = "unwind") { UNWINDS } else { 0 },
        describe: describe::<E>,
        create: create::<E>,
        call: call::<E>,
        destroy: destroy::<E>,
        free,
    }
}

unsafe extern "C" fn describe<E: Exported>(reply: *mut Buffer) -> i32 {
    let answer = guarded(|| {
        let description = Description {
            vendor_yaml: E::VENDOR_YAML.into(),
            version: E::VERSION.into(),
            templates: Default::default(),
        };
        Ok(Some(to_json(&description)))
    });
    // SAFETY: the host passes a place for the reply.
    unsafe { put(answer, reply) }
}

unsafe extern "C" fn create<E: Exported>(vendor_yaml: Slice, instance: *mut *mut c_void, reply: *mut Buffer) -> i32 {
    let answer = guarded(|| {
        // SAFETY: the host lends the text for the duration of this call.
        let yaml = std::str::from_utf8(unsafe { vendor_yaml.bytes() })
            .map_err(|error| PluginError::Other(error.to_string()))?;
        let spec = Spec::read(yaml).map_err(|error| PluginError::Other(error.to_string()))?;
        let plugin = Box::new(E::Plugin::from(spec));
        // SAFETY: the host passes a place for the instance, and gives it back to `destroy` of this same table.
        unsafe { *instance = Box::into_raw(plugin).cast() };
        Ok(None)
    });
    // SAFETY: the host passes a place for the reply.
    match unsafe { put(answer, reply) } {
        BY_DATA => OK,
        status => status,
    }
}

unsafe extern "C" fn destroy<E: Exported>(instance: *mut c_void) {
    let _ = std::panic::catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: `create` made this box, and the host calls destroy once, after the last call.
        drop(unsafe { Box::from_raw(instance.cast::<E::Plugin>()) });
    }));
}

unsafe extern "C" fn call<E: Exported>(
    instance: *mut c_void,
    host: *const HostTable,
    request: Slice,
    reply: *mut Buffer,
) -> i32 {
    let answer = guarded(|| {
        // SAFETY: `create` made the instance, and it lives until `destroy`; shared access only, and Plugin is Sync.
        let plugin = unsafe { &*instance.cast::<E::Plugin>() };
        // SAFETY: the host lends request and table for the duration of this call.
        let (request, host) = unsafe { (request.bytes(), HostRender(&*host)) };
        let request: Request<'_> = serde_json::from_slice(request)
            .map_err(|error| PluginError::Other(format!("cannot read the host's request: {error}")))?;
        answer(plugin, request, &host)
    });
    // SAFETY: the host passes a place for the reply.
    unsafe { put(answer, reply) }
}

fn answer<P: Plugin>(plugin: &P, request: Request<'_>, host: &dyn Render) -> Result<Option<Vec<u8>>, PluginError> {
    Ok(Some(match request {
        Request::Announce(announced) => match plugin.announce(&announced)? {
            Some(url) => to_json(&Url { url }),
            None => return Ok(None),
        },
        Request::Render { file, phone, .. } => {
            let spec = plugin.spec();
            let file = spec
                .files
                .get(file)
                .ok_or_else(|| PluginError::Other("the host asks for a file that is not in vendor.yaml".into()))?;
            to_json(&match plugin.render(file, &phone, host)? {
                Some(rendered) => Rendered::from(rendered),
                None => Rendered::ByTemplate { variables: plugin.variables(file, &phone)? },
            })
        }
        Request::Complaints { phone } => to_json::<Vec<Complaint>>(&plugin.complaints(&phone)),
    }))
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("replies are plain data")
}

/// What a guarded call ended in.
enum Ended {
    Answered(Option<Vec<u8>>),
    Refused(PluginError),
    Panicked(String),
}

/// The panic barrier. What a panicking call was about to change is only its own: plugins hold no state between calls.
fn guarded(act: impl FnOnce() -> Result<Option<Vec<u8>>, PluginError>) -> Ended {
    match std::panic::catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(answer)) => Ended::Answered(answer),
        Ok(Err(error)) => Ended::Refused(error),
        Err(panic) => Ended::Panicked(
            panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "panicked without a message".into()),
        ),
    }
}

/// # Safety
/// `reply` must be a place that a buffer can be written to.
unsafe fn put(ended: Ended, reply: *mut Buffer) -> i32 {
    let (status, bytes) = match ended {
        Ended::Answered(Some(bytes)) => (OK, bytes),
        Ended::Answered(None) => (BY_DATA, Vec::new()),
        Ended::Refused(error) => (FAILED, to_json(&error)),
        Ended::Panicked(message) => (PANICKED, message.into_bytes()),
    };
    // SAFETY: the caller vouches for the place.
    unsafe { *reply = Buffer::hand_over(bytes) };
    status
}

/// The host's template engine, called through the table that it lent.
struct HostRender<'a>(&'a HostTable);

impl Render for HostRender<'_> {
    fn render(&self, template: &str, variables: &Variables) -> Result<String, TemplateFailure> {
        let garbled = |what: String| TemplateFailure { template: template.to_owned(), line: 0, message: what };
        let request = to_json(&serde_json::json!({ "template": template, "variables": variables }));
        let mut reply = Buffer::EMPTY;
        // SAFETY: the table is lent for this call, on this thread; the request outlives the inner call and the reply has a place.
        let status = unsafe { (self.0.render)(self.0.context, Slice::lend(&request), &mut reply) };
        // SAFETY: the host filled the reply, and it stays until it is given back below.
        let bytes = unsafe { Slice { ptr: reply.ptr, len: reply.len }.bytes() }.to_vec();
        // SAFETY: the reply is the host's, and is not used again.
        unsafe { (self.0.free)(reply) };
        match status {
            OK => String::from_utf8(bytes).map_err(|error| garbled(error.to_string())),
            FAILED => Err(serde_json::from_slice(&bytes).unwrap_or_else(|error| garbled(error.to_string()))),
            other => Err(garbled(format!("the host answered with status {other}"))),
        }
    }
}

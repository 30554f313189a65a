/*
 * The C table between Provost and a plugin library: what src/abi.rs says in Rust, byte for byte. For plugins in any language that can
 * export a C function. How to write one, and what each answer means to the phones, is in plugins/README.md.
 *
 * Requests and answers are JSON in UTF-8, with a length and without a terminating zero.
 *
 * Ownership   A provost_slice is lent for the duration of the call: read it, copy what you need, never keep or free it.
 *             A provost_buffer belongs to the side that made it and is given back to that side's `free`. So what you put into a reply
 *             comes back to your `free`, and what the host's `render` replies goes back to the host's `free`, whatever the status.
 *             An empty buffer is { NULL, 0 }; `free` must take it.
 * Threads     `call` may be entered by several threads at once, also for the same instance. Keep no state between calls.
 * Versions    PROVOST_ABI_MAJOR must be equal on both sides. A higher minor only appends to the tables; `size` tells what is there.
 * Trust       A library runs inside the server and can do what the server can. The table guards against mistakes, not malice.
 */
#ifndef PROVOST_PLUGIN_H
#define PROVOST_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* "PROVOST" and a zero, read as a little-endian number. */
#define PROVOST_MAGIC UINT64_C(0x0054534F564F5250)
#define PROVOST_ABI_MAJOR UINT32_C(1)
#define PROVOST_ABI_MINOR UINT32_C(0)

/* Flag: no panic or exception leaves the library. The host refuses a library without it. A library in C has none to leak and sets it. */
#define PROVOST_UNWINDS UINT32_C(1)

/* What `describe`, `create`, `call` and the host's `render` return. */
enum {
    /* The answer is in the reply. */
    PROVOST_OK = 0,
    /* The reply holds an error as JSON: {"Other": "in words for the administrator"}, or, to pass on what `render` failed with,
     * {"Template": {"template": "file", "line": 3, "message": "..."}}. `render` itself replies with the inner object. */
    PROVOST_FAILED = 1,
    /* The library came to grief; the reply holds a message as plain text, not JSON. */
    PROVOST_PANICKED = 2,
    /* Nothing of its own to say: the host answers by vendor.yaml. The reply is empty. Only from `call`. */
    PROVOST_BY_DATA = 3,
    /* The request could not be read. The reply is empty. */
    PROVOST_NOT_UNDERSTOOD = 4
};

/* Bytes lent for the duration of a call. With `len` 0 `ptr` may be anything. */
typedef struct provost_slice {
    const uint8_t *ptr;
    size_t len;
} provost_slice;

/* Bytes handed over; given back to the maker's `free`. */
typedef struct provost_buffer {
    uint8_t *ptr;
    size_t len;
} provost_buffer;

/* What the host offers during one `call`. Not to be used after that call has returned, nor from another thread than it came on. */
typedef struct provost_host {
    /* Of this struct. */
    size_t size;
    /* To be passed to `render`. */
    void *context;
    /* Renders a template of this vendor for the phone and the file that `call` asks for; only while it asks for a file.
     *   request  {"template": "device.cfg.j2", "variables": {...}}
     *            `variables` is what the template sees beside `phone` and `file`. `template` is relative to the vendor's own templates;
     *            overrides of the site come first.
     *   reply    PROVOST_OK: the text itself, not JSON; left-out lines and line ends are done.
     *            PROVOST_FAILED: {"template": "file", "line": 3, "message": "..."}
     * The reply is the host's: give it back to `free` below. */
    int32_t (*render)(void *context, provost_slice request, provost_buffer *reply);
    /* Takes back what `render` replied. */
    void (*free)(provost_buffer buffer);
} provost_host;

/* What a library is. Must live as long as the library is loaded: a static. */
typedef struct provost_plugin {
    /* PROVOST_MAGIC, PROVOST_ABI_MAJOR, PROVOST_ABI_MINOR, sizeof(provost_plugin), PROVOST_UNWINDS. */
    uint64_t magic;
    uint32_t abi_major;
    uint32_t abi_minor;
    size_t size;
    uint32_t flags;

    /* Called once, before `create`.
     *   reply    {"vendor_yaml": "text of the vendor.yaml it was built with", "version": "1.0",
     *             "templates": {"device.cfg.j2": "text", ...}}
     *            `version` and `templates` may be left out. Templates on disk come before those in here. */
    int32_t (*describe)(provost_buffer *reply);

    /* Makes an instance.
     *   vendor_yaml  the library's own, or the one in the plugin's folder, which comes first
     *   instance     where to put a pointer of the library's own choice; it comes back in `call` and `destroy`
     *   reply        PROVOST_OK: empty. PROVOST_FAILED: an error, and there is no instance. */
    int32_t (*create)(provost_slice vendor_yaml, void **instance, provost_buffer *reply);

    /* Answers a question. The request has "verb" and the fields beside it; ignore fields that you do not know.
     *
     *   {"verb": "announce", "identity": {"mac": "80:5e:c0:aa:bb:cc", "vendor": ..., "model": ..., "firmware": ..., "hardware": ..., "user_agent": ...},
     *    "base_url": "http://10.20.0.5:8080/"}
     *     a phone that will be served; what it did not tell is null
     *     reply  {"url": "what the NOTIFY is to carry"}
     *
     *   {"verb": "render", "file": 0, "name": "{mac}.cfg", "template": "device.cfg.j2", "phone": {...}}
     *     `file` counts the entries of `files` in vendor.yaml from 0, `name` and `template` (may be null) are that entry's; `phone` is
     *     the resolved phone, passwords included, as templates see it; in a directory file without them, and with the list as `book`
     *     reply  {"variables": {...}}: the host is to render the file's own template, which sees these beside `phone` and `file`; or
     *            {"content_type": "text/plain", "text": "..."}, or for what is not UTF-8 "bytes": [80, 114, ...] in place of "text"
     *
     *   {"verb": "complaints", "phone": {...}}
     *     reply  [{"field": "keys.12.kind", "reason": "..."}, ...], what the model cannot do
     *
     * Each of them, and any verb that is not known here, may be answered with PROVOST_BY_DATA. Of "announce" that is said for all phones:
     * a library that answered it so once is not asked again. */
    int32_t (*call)(void *instance, const provost_host *host, provost_slice request, provost_buffer *reply);

    /* Ends an instance; no call into it is under way, and none will follow. */
    void (*destroy)(void *instance);

    /* Takes back what this library replied. */
    void (*free)(provost_buffer buffer);
} provost_plugin;

#if defined(_WIN32)
#define PROVOST_EXPORT __declspec(dllexport)
#else
#define PROVOST_EXPORT __attribute__((visibility("default")))
#endif

/* The one symbol that a library exports. */
PROVOST_EXPORT const provost_plugin *provost_plugin_v1(void);

#ifdef __cplusplus
}
#endif

#endif

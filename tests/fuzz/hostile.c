/*
 * A library that answers every call with what lies in the file ANSWER: a byte for the status, a byte for the manner, and the reply.
 */
#include "provost_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST (1 << 20)

static const char DESCRIPTION[] = "{\"vendor_yaml\":\"vendor: Hostile\\nfiles: [{ name: '{mac}.cfg' }]\\n\"}";

static int32_t reply_with(provost_buffer *reply, const void *bytes, size_t len, int32_t status) {
    uint8_t *copy = malloc(len + 1);
    if (copy == NULL) {
        return PROVOST_PANICKED;
    }
    memcpy(copy, bytes, len);
    *reply = (provost_buffer){copy, len};
    return status;
}

static int32_t describe(provost_buffer *reply) {
    return reply_with(reply, DESCRIPTION, sizeof DESCRIPTION - 1, PROVOST_OK);
}

static int32_t create(provost_slice vendor_yaml, void **instance, provost_buffer *reply) {
    (void)vendor_yaml;
    static int something;
    *instance = &something;
    *reply = (provost_buffer){NULL, 0};
    return PROVOST_OK;
}

static int32_t call(void *instance, const provost_host *host, provost_slice request, provost_buffer *reply) {
    (void)instance;
    (void)request;
    *reply = (provost_buffer){NULL, 0};
    uint8_t *answer = malloc(LONGEST);
    FILE *file = fopen(ANSWER, "rb");
    size_t len = answer != NULL && file != NULL ? fread(answer, 1, LONGEST, file) : 0;
    if (file != NULL) {
        fclose(file);
    }
    int32_t status = PROVOST_BY_DATA;
    if (len >= 2) {
        status = (int8_t)answer[0];
        switch (answer[1] % 4) {
        case 0:
            /* A length, and nothing there. */
            *reply = (provost_buffer){NULL, len - 2};
            break;
        case 1: {
            /* What the host's own engine makes of these bytes. */
            provost_buffer rendered = {NULL, 0};
            host->render(host->context, (provost_slice){answer + 2, len - 2}, &rendered);
            status = reply_with(reply, rendered.len > 0 ? rendered.ptr : answer, rendered.len, status);
            host->free(rendered);
            break;
        }
        default:
            status = reply_with(reply, answer + 2, len - 2, status);
        }
    }
    free(answer);
    return status;
}

static void destroy(void *instance) {
    (void)instance;
}

static void give_back(provost_buffer buffer) {
    free(buffer.ptr);
}

const provost_plugin *provost_plugin_v1(void) {
    static const provost_plugin table = {
        PROVOST_MAGIC, PROVOST_ABI_MAJOR, PROVOST_ABI_MINOR, sizeof(provost_plugin), PROVOST_UNWINDS, describe, create, call, destroy,
        give_back,
    };
    return &table;
}

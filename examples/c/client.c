/* A minimal client of loraq in C, on libzmq alone: submits a batch of a plugin's own kind, waits for its end, prints the answers.
 *
 *     cc -o client client.c -lzmq && LORAQ_HOME=… ./client shout "first text" "second text"
 *
 * The first argument is the kind, each other one the `text` of a line. docs/protocol.md says what is sent; a real client
 * would use a JSON library, where this one looks for the few fields that it needs. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

enum { HEADER_BYTES = 65536, BODY_BYTES = 4 << 20, RESEND_MS = 1000, GIVE_UP_MS = 15000 };

static void *control;
static char verb[40], header[HEADER_BYTES + 1];
static char *body; /* the first body of the last reply, ended by a zero */
static int next_request;

static void fail(const char *what) {
    fprintf(stderr, "client: %s\n", what);
    exit(1);
}

static long now_ms(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000L + t.tv_nsec / 1000000;
}

/* The text after `"name":` in a JSON object that nobody indented; NULL if the name is not there. */
static const char *field(const char *json, const char *name) {
    char key[80];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *found = strstr(json, key);
    return found ? found + strlen(key) : NULL;
}

static int is_text(const char *value, const char *text) {
    size_t n = strlen(text);
    return value && value[0] == '"' && strncmp(value + 1, text, n) == 0 && value[n + 1] == '"';
}

/* Copies a JSON string without escapes. */
static void copy_text(const char *value, char *out, size_t size) {
    size_t n = 0;
    if (value && *value++ == '"')
        while (value[n] && value[n] != '"' && n + 1 < size) { out[n] = value[n]; n++; }
    out[n] = 0;
}

/* Receives one message into `verb`, `header`, `body`. */
static void receive(void) {
    free(body);
    body = calloc(1, 1);
    verb[0] = header[0] = 0;
    for (int part = 0, more = 1; more; part++) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, control, 0) < 0) fail(zmq_strerror(errno));
        size_t size = zmq_msg_size(&frame);
        char *into = part == 1 ? verb : part == 2 ? header : NULL;
        size_t room = part == 1 ? sizeof verb - 1 : HEADER_BYTES;
        if (part == 3) {
            body = realloc(body, size + 1);
            into = body;
            room = size;
        }
        if (into) {
            if (size > room) fail("a frame is too long");
            memcpy(into, zmq_msg_data(&frame), size);
            into[size] = 0;
        }
        more = zmq_msg_more(&frame);
        zmq_msg_close(&frame);
    }
}

/* Sends a request until it is answered, always with the same request_id; 1 for OK, 0 for ERROR.
 * `fields` are the header's members, with a comma before each. */
static int request(const char *name, const char *fields, const char *data) {
    char id[24], head[HEADER_BYTES], bodies[80] = "";
    snprintf(id, sizeof id, "c-%d-%d", (int)getpid(), next_request++);
    if (data) snprintf(bodies, sizeof bodies, ",\"bodies\":[{\"name\":\"lines\",\"bytes\":%zu}]", strlen(data));
    int size = snprintf(head, sizeof head, "{\"request_id\":\"%s\"%s%s}", id, fields, bodies);
    if (size >= (int)sizeof head) fail("the request is too long");
    long begun = now_ms(CLOCK_MONOTONIC), sent = 0;
    while (now_ms(CLOCK_MONOTONIC) - begun < GIVE_UP_MS) {
        if (!sent || now_ms(CLOCK_MONOTONIC) - sent > RESEND_MS) {
            zmq_send(control, "LQP/1", 5, ZMQ_SNDMORE | ZMQ_DONTWAIT);
            zmq_send(control, name, strlen(name), ZMQ_SNDMORE | ZMQ_DONTWAIT);
            zmq_send(control, head, (size_t)size, ZMQ_DONTWAIT | (data ? ZMQ_SNDMORE : 0));
            if (data) zmq_send(control, data, strlen(data), ZMQ_DONTWAIT);
            sent = now_ms(CLOCK_MONOTONIC);
        }
        zmq_pollitem_t item = {control, 0, ZMQ_POLLIN, 0};
        if (zmq_poll(&item, 1, 100) <= 0) continue;
        receive();
        if (is_text(field(header, "request_id"), id)) return strcmp(verb, "OK") == 0;
    }
    fail("no broker answers; is LORAQ_HOME right, and does loraqd run?");
    return 0;
}

/* A UUIDv7: 48 bits of time, then random bits. */
static void new_job_id(char out[37]) {
    uint64_t random[2];
    FILE *source = fopen("/dev/urandom", "rb");
    if (!source || fread(random, sizeof random, 1, source) != 1) fail("no random numbers");
    fclose(source);
    uint64_t time_ms = (uint64_t)now_ms(CLOCK_REALTIME);
    snprintf(out, 37, "%08x-%04x-7%03x-%04x-%012llx", (unsigned)(time_ms >> 16), (unsigned)(time_ms & 0xffff),
             (unsigned)(random[0] & 0xfff), (unsigned)(0x8000 | (random[0] >> 16 & 0x3fff)),
             (unsigned long long)(random[1] & 0xffffffffffffULL));
}

/* Appends a line; quotes, backslashes and control characters of the text are left out. */
static void add_line(char *lines, int number, const char *text) {
    size_t used = strlen(lines);
    used += (size_t)snprintf(lines + used, HEADER_BYTES - used, "{\"custom_id\":\"line-%d\",\"text\":\"", number);
    for (; *text && used < HEADER_BYTES - 8; text++)
        if ((unsigned char)*text >= ' ' && *text != '"' && *text != '\\') lines[used++] = *text;
    strcpy(lines + used, "\"}\n");
}

int main(int argc, char **argv) {
    const char *home = getenv("LORAQ_HOME");
    if (argc < 3 || !home) fail("usage: LORAQ_HOME=folder client KIND TEXT…");
    char endpoint[200], lines[HEADER_BYTES] = "", job[37], fields[1024];
    snprintf(endpoint, sizeof endpoint, "ipc://%s/run/control", home);
    void *context = zmq_ctx_new();
    control = zmq_socket(context, ZMQ_DEALER);
    int linger = 0;
    zmq_setsockopt(control, ZMQ_LINGER, &linger, sizeof linger);
    if (zmq_connect(control, endpoint) != 0) fail(zmq_strerror(errno));

    for (int i = 2; i < argc; i++) add_line(lines, i - 1, argv[i]);
    new_job_id(job);
    snprintf(fields, sizeof fields,
             ",\"job\":{\"id\":\"%s\",\"kind\":\"%.64s\",\"spec\":{},\"inputs\":[{\"name\":\"lines\",\"body\":\"lines\"}]}",
             job, argv[1]);
    if (!request("SUBMIT", fields, lines)) fail(header);
    printf("submitted %s\n", job);

    char state[32] = "";
    while (strcmp(state, "succeeded") != 0) {
        snprintf(fields, sizeof fields, ",\"jobs\":[\"%s\"]", job);
        if (!request("STATUS", fields, NULL)) fail(header);
        copy_text(field(header, "state"), state, sizeof state);
        if (!strcmp(state, "failed") || !strcmp(state, "cancelled") || !strcmp(state, "skipped") ||
            !strcmp(state, "dependency_failed"))
            fail(state);
        usleep(50000);
    }
    char cursor[128] = "";
    for (int complete = 0; !complete;) {
        snprintf(fields, sizeof fields, ",\"job\":\"%s\"%s%s%s", job, *cursor ? ",\"after\":\"" : "", cursor, *cursor ? "\"" : "");
        if (!request("FETCH", fields, NULL)) fail(header);
        fputs(body, stdout);
        copy_text(field(header, "next"), cursor, sizeof cursor);
        const char *value = field(header, "complete");
        complete = value && strncmp(value, "true", 4) == 0;
    }
    zmq_close(control);
    zmq_ctx_term(context);
    free(body);
    return 0;
}

/* What a program may get wrong: an error code each time, and no byte written outside of the memory. */

#include <string.h>

#include "hooks.h"

#define QUEUE_BYTES 608
#define CANARY 0xA5

typedef struct {
    holm_device *device;
    unsigned events;
    unsigned dropped;
    uint64_t next_dropped;
    holm_result inner_poll;
} watcher;

static holm_settings sound(void)
{
    holm_settings settings = HOLM_SETTINGS;
    settings.name = "press-7";
    settings.token = "secret";
    settings.boot = 1;
    settings.baud = 115200;
    return settings;
}

typedef holm_result (*starter)(void *, size_t, const holm_settings *, holm_device **);

static void check_start(starter start, size_t size)
{
    uint8_t *memory = aligned_alloc(HOLM_ALIGNMENT, size + HOLM_ALIGNMENT);
    holm_settings settings = sound();
    holm_device *device = (holm_device *)memory;

    CHECK(start(NULL, size, &settings, &device) == HOLM_ERROR_MEMORY && device == NULL);
    CHECK(start(memory, size, NULL, &device) == HOLM_ERROR_ARGUMENT);
    CHECK(start(memory, size, &settings, NULL) == HOLM_ERROR_ARGUMENT);
    CHECK(start(memory + HOLM_ALIGNMENT / 2, size - 8, &settings, &device) == HOLM_ERROR_MEMORY && device == NULL);
    /* Too little, by whatever: nothing behind the end is touched. */
    for (size_t length = 0; length < size - QUEUE_BYTES + HOLM_RECORD_BYTES + 2; length += 7) {
        memset(memory + length, CANARY, size + 8 - length);
        CHECK(start(memory, length, &settings, &device) == HOLM_ERROR_MEMORY && device == NULL);
        for (size_t at = length; at < size + 8; at++) {
            CHECK(memory[at] == CANARY);
        }
    }

    settings.abi = 0;
    CHECK(start(memory, size, &settings, &device) == HOLM_ERROR_ABI);
    settings.abi = HOLM_ABI + 8;
    CHECK(start(memory, size, &settings, &device) == HOLM_ERROR_ABI);

    const char *no_names[] = { NULL, "", "a b", "press/7", "pr\xc3\xa9ss",
                               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };
    for (size_t at = 0; at < sizeof no_names / sizeof no_names[0]; at++) {
        settings = sound();
        settings.name = no_names[at];
        CHECK(start(memory, size, &settings, &device) == HOLM_ERROR_NAME && device == NULL);
    }

    /* No NUL within its bounds: it is not read further. */
    char long_text[129];
    memset(long_text, 'a', sizeof long_text);
    settings = sound();
    settings.token = long_text;
    CHECK(start(memory, size, &settings, &device) == HOLM_ERROR_CREDENTIAL);
    settings = sound();
    settings.user = "\xff";
    CHECK(start(memory, size, &settings, &device) == HOLM_ERROR_CREDENTIAL);
    settings = sound();
    settings.overflow = 2;
    CHECK(start(memory, size, &settings, &device) == HOLM_ERROR_ARGUMENT);
    settings = sound();
    settings.address = 248;
    CHECK(start(memory, size, &settings, &device) == HOLM_ERROR_ADDRESS);

    /* The longest that there is. */
    char name[65], token[129];
    memset(name, 'n', 64);
    memset(token, 't', 128);
    name[64] = token[128] = '\0';
    settings = sound();
    settings.name = settings.user = name;
    settings.token = token;
    memset(memory + size, CANARY, 8);
    CHECK(start(memory, size, &settings, &device) == HOLM_OK && device != NULL);
    CHECK(memory[size] == CANARY);
    CHECK(holm_device_poll(device, 0, NULL) == HOLM_OK);
    free(memory);
}

static void check_no_device(holm_device *none)
{
    uint8_t bytes[16] = { 0 };
    uint64_t number;
    holm_time time;
    holm_figures figures;
    CHECK(holm_device_poll(none, 0, &number) == HOLM_ERROR_ARGUMENT);
    CHECK(holm_device_connection(none) == 0);
    CHECK(holm_device_opened(none, 1) == HOLM_ERROR_ARGUMENT);
    CHECK(holm_device_closed(none, 1) == HOLM_ERROR_ARGUMENT);
    CHECK(holm_device_received(none, bytes, sizeof bytes) == 0);
    CHECK(holm_device_to_send(none, bytes, sizeof bytes) == 0);
    CHECK(holm_device_publish(none, "a", 0, bytes, 1, &number) == HOLM_ERROR_ARGUMENT);
    CHECK(holm_device_now(none, &time) == HOLM_ERROR_ARGUMENT);
    CHECK(holm_device_figures(none, &figures) == HOLM_ERROR_ARGUMENT);
}

static void on_event(void *context, const holm_event *event)
{
    watcher *watcher = context;
    watcher->events++;
    watcher->inner_poll = holm_device_poll(watcher->device, 0, NULL);
    if (event->kind == HOLM_EVENT_DROPPED) {
        CHECK(event->sequence == watcher->next_dropped);
        watcher->dropped++;
        watcher->next_dropped++;
    }
}

static void check_use(void)
{
    static HOLM_ALIGNED uint8_t memory[HOLM_DEVICE_SIZE(QUEUE_BYTES)];
    watcher watcher = { 0 };
    holm_settings settings = sound();
    settings.on_event = on_event;
    settings.context = &watcher;
    CHECK(holm_device_init(memory, sizeof memory, &settings, &watcher.device) == HOLM_OK);
    holm_device *device = watcher.device;

    uint8_t bytes[512] = { 0 };
    uint64_t sequence = 99;
    CHECK(holm_device_publish(device, NULL, 0, bytes, 1, &sequence) == HOLM_ERROR_ARGUMENT);
    CHECK(holm_device_publish(device, "a", 0, NULL, 1, &sequence) == HOLM_ERROR_ARGUMENT);
    const char *no_topics[] = { "", "$holm/v1/up/press-7/log", "a/+", "#", "\xff", NULL };
    for (size_t at = 0; no_topics[at] != NULL; at++) {
        CHECK(holm_device_publish(device, no_topics[at], 0, bytes, 1, &sequence) == HOLM_ERROR_TOPIC);
    }
    char long_topic[129];
    memset(long_topic, 'a', sizeof long_topic);
    CHECK(holm_device_publish(device, long_topic, 0, bytes, 1, &sequence) == HOLM_ERROR_TOPIC);
    CHECK(holm_device_publish(device, "a", 0, bytes, sizeof bytes, &sequence) == HOLM_ERROR_TOO_LONG);
    CHECK(holm_device_publish(device, "a", 0, bytes, SIZE_MAX, &sequence) == HOLM_ERROR_ARGUMENT);
    CHECK(sequence == 99);
    CHECK(holm_device_received(device, NULL, 4) == 0 && holm_device_received(device, NULL, 0) == 0);
    CHECK(holm_device_to_send(device, NULL, 4) == 0 && holm_device_to_send(device, bytes, 0) == 0);
    CHECK(holm_device_now(device, NULL) == HOLM_ERROR_ARGUMENT);
    CHECK(holm_device_figures(device, NULL) == HOLM_ERROR_ARGUMENT);
    CHECK(holm_device_answer(NULL, 0, bytes, 1) == HOLM_ERROR_ARGUMENT);

    /* No connection is wanted before the first poll; then number 1, which nobody makes. */
    CHECK(holm_device_connection(device) == 0);
    CHECK(holm_device_opened(device, 0) == HOLM_ERROR_STALE);
    uint64_t due_ms = 0;
    CHECK(holm_device_poll(device, 5, &due_ms) == HOLM_OK && due_ms > 5 && due_ms < 60000);
    CHECK(holm_device_connection(device) == 1);
    CHECK(holm_device_received(device, bytes, 4) == 0);
    CHECK(holm_device_opened(device, 2) == HOLM_ERROR_STALE);
    CHECK(holm_device_closed(device, 1) == HOLM_OK);
    CHECK(holm_device_connection(device) == 0);
    CHECK(holm_device_closed(device, 1) == HOLM_ERROR_STALE);
    CHECK(holm_device_poll(device, 6, &due_ms) == HOLM_OK && due_ms > 6);
    CHECK(watcher.events == 1 && watcher.inner_poll == HOLM_ERROR_BUSY);

    /* The inbox is full before the queue is: the program has to poll. */
    unsigned published = 0;
    while (holm_device_publish(device, "a/b", 0, bytes, 100, &sequence) == HOLM_OK) {
        CHECK(sequence == published);
        published++;
    }
    CHECK(holm_device_publish(device, "a/b", 0, bytes, 100, NULL) == HOLM_ERROR_FULL);
    CHECK(published >= 3 && published < 8);
    for (uint64_t now_ms = 7; now_ms < 200; now_ms++) {
        CHECK(holm_device_poll(device, now_ms, NULL) == HOLM_OK);
        CHECK(holm_device_publish(device, "a/b", 0, NULL, 0, &sequence) == HOLM_OK);
        published++;
    }
    CHECK(holm_device_poll(device, 200, NULL) == HOLM_OK);
    holm_figures figures;
    CHECK(holm_device_figures(device, &figures) == HOLM_OK);
    CHECK(figures.queued + watcher.dropped == published && watcher.dropped > 0);
    CHECK(figures.overflowed == watcher.dropped && figures.published == published);

    /* Time that goes back stands still. */
    holm_time time;
    CHECK(holm_device_poll(device, 3, &due_ms) == HOLM_OK);
    CHECK(holm_device_now(device, &time) == HOLM_OK && time.ms == 200 && time.quality == HOLM_QUALITY_UPTIME);
}

/* A queue that refuses: what it refuses is told once, and what it holds stays. */
static void check_drop_newest(void)
{
    static HOLM_ALIGNED uint8_t memory[HOLM_DEVICE_SIZE(HOLM_RECORD_BYTES + 2)];
    watcher watcher = { 0 };
    holm_settings settings = sound();
    settings.overflow = HOLM_OVERFLOW_DROP_NEWEST;
    settings.on_event = on_event;
    settings.context = &watcher;
    CHECK(holm_device_init(memory, sizeof memory, &settings, &watcher.device) == HOLM_OK);
    uint8_t body[150] = { 0 };
    unsigned published = 0;
    for (uint64_t now_ms = 0; now_ms < 20; now_ms++) {
        CHECK(holm_device_publish(watcher.device, "a/b", 0, body, sizeof body, NULL) == HOLM_OK);
        published++;
        CHECK(holm_device_poll(watcher.device, now_ms, NULL) == HOLM_OK);
        holm_figures figures;
        CHECK(holm_device_figures(watcher.device, &figures) == HOLM_OK);
        if (watcher.next_dropped == 0) {
            watcher.next_dropped = figures.queued;
        }
        CHECK(figures.queued + watcher.dropped == published);
    }
    CHECK(watcher.dropped == 19);
}

/* A line is there from the start: the first poll says hello, in a frame between zeros. */
static void check_line(void)
{
    static HOLM_ALIGNED uint8_t memory[HOLM_SERIAL_SIZE(QUEUE_BYTES)];
    holm_settings settings = sound();
    holm_device *device;
    CHECK(holm_serial_init(memory, sizeof memory, &settings, &device) == HOLM_OK);
    CHECK(holm_device_connection(device) == 1);
    CHECK(holm_device_closed(device, 1) == HOLM_ERROR_STALE);
    uint64_t due_ms;
    uint8_t bytes[512], noise[600];
    CHECK(holm_device_poll(device, 300, &due_ms) == HOLM_OK && due_ms > 300);
    size_t length = 0, given;
    while ((given = holm_device_to_send(device, bytes + length, 7)) > 0) {
        length += given;
    }
    CHECK(length > 20 && bytes[0] == 0 && bytes[length - 1] == 0 && memchr(bytes + 1, 0, length - 2) == NULL);
    /* Noise is taken as far as there is room, and does no harm. */
    memset(noise, 0x55, sizeof noise);
    size_t taken = holm_device_received(device, noise, sizeof noise);
    CHECK(taken > 0 && taken < sizeof noise && holm_device_received(device, noise, 1) == 0);
    CHECK(holm_device_poll(device, 301, &due_ms) == HOLM_OK && due_ms > 301);
    CHECK(holm_device_received(device, noise, sizeof noise) == taken);
    CHECK(holm_device_poll(device, 302, &due_ms) == HOLM_OK && due_ms > 302);
}

static void check_provision(const char *path)
{
    static uint8_t image[8192];
    holm_provision provision;
    CHECK(holm_provision_read(NULL, sizeof image, &provision) == HOLM_ERROR_ARGUMENT);
    CHECK(holm_provision_read(image, sizeof image, NULL) == HOLM_ERROR_ARGUMENT);
    CHECK(holm_provision_read(image, 0, &provision) == HOLM_ERROR_PROVISION);
    CHECK(holm_provision_read(image, 10, &provision) == HOLM_ERROR_PROVISION);
    CHECK(holm_provision_read(image, sizeof image, &provision) == HOLM_ERROR_PROVISION);
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL && fread(image, 1, sizeof image, file) == sizeof image);
    fclose(file);
    CHECK(holm_provision_read(image, sizeof image, &provision) == HOLM_OK);
    CHECK(strcmp(provision.name, "press-7") == 0 && strcmp(provision.host, "barn.local") == 0);
    CHECK(strcmp(provision.token, "a token") == 0 && provision.is_plain == 1 && provision.port == 1883);
    image[0] = image[4096] = 0;
    CHECK(holm_provision_read(image, sizeof image, &provision) == HOLM_ERROR_PROVISION);
}

int main(int count, char **words)
{
    CHECK(count == 2);
    check_start(holm_device_init, HOLM_DEVICE_SIZE(QUEUE_BYTES));
    check_start(holm_serial_init, HOLM_SERIAL_SIZE(QUEUE_BYTES));
    static HOLM_ALIGNED uint8_t zeros[HOLM_DEVICE_SIZE(0)];
    check_no_device(NULL);
    check_no_device((holm_device *)zeros);
    check_no_device((holm_device *)(zeros + 1));
    check_use();
    check_drop_newest();
    check_line();
    check_provision(words[1]);
    return 0;
}

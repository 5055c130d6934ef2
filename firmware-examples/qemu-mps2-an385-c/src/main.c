/* A temperature sensor in C on a serial line, on QEMU's mps2-an385. */

#include "board.h"
#include "holm_device.h"
#include "holm_postcard.h"
#include "settings.h"

/* Defined in firmware-examples/messages: `Reading { milli_celsius: i32 }` and `Period { milliseconds: u32 }`. */
#define SCHEMA_READING UINT64_C(0xbcbc55d1530102e5)
#define SCHEMA_PERIOD UINT64_C(0x2be6a31518f8b6f4)

#define BAUD 115200u
#define QUEUE_BYTES 4096u

/* Exit codes for a command line that is not understood, and after a panic. */
#define EXIT_USAGE 2
#define EXIT_PANIC 101
/* Time for an answer to leave before the device ends. */
#define ANSWER_MS 500u

static HOLM_ALIGNED uint8_t memory[HOLM_SERIAL_SIZE(QUEUE_BYTES)];

static struct {
    uint32_t period_ms;
    uint64_t next_ms; /* when to measure */
    bool is_ending;
    uint8_t exit_code;
    uint64_t end_ms;
} app;

/* ---- What the library needs ---- */

uint32_t holm_hook_lock(void)
{
    return lock();
}

void holm_hook_unlock(uint32_t state)
{
    unlock(state);
}

_Noreturn void holm_hook_panic(const char *file, size_t file_length, uint32_t line)
{
    char name[64];
    size_t length = file_length < sizeof name - 1 ? file_length : sizeof name - 1;
    /* Its end says more than its beginning. */
    for (size_t at = 0; at < length; at++) {
        name[at] = file[file_length - length + at];
    }
    name[length] = '\0';
    say("panic: in line %u of %s", line, name);
    sim_exit(EXIT_PANIC);
}

/* ---- Events ---- */

static void on_event(void *context, const holm_event *event)
{
    (void)context;
    switch (event->kind) {
    case HOLM_EVENT_CONNECTED:
        say("connected");
        break;
    case HOLM_EVENT_DISCONNECTED:
        say("disconnected: trouble %u, reason %u", (uint32_t)event->trouble, (uint32_t)event->reason);
        break;
    case HOLM_EVENT_ACKED:
        say("acked %u", (uint32_t)event->sequence);
        break;
    case HOLM_EVENT_REFUSED:
        say("refused %u, reason %u", (uint32_t)event->sequence, (uint32_t)event->reason);
        break;
    case HOLM_EVENT_DROPPED:
        say("dropped %u", (uint32_t)event->sequence);
        break;
    case HOLM_EVENT_TIME:
        say("time %x, quality %u", event->time_ms, (uint32_t)event->quality);
        break;
    default:
        break;
    }
}

/* ---- Commands ---- */

static size_t length_of(const char *text)
{
    size_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    return length;
}

static bool is(const char *left, const char *right)
{
    while (*left != '\0' && *left == *right) {
        left++;
        right++;
    }
    return *left == *right;
}

static int32_t refuse(holm_reply *reply, const char *why)
{
    holm_device_answer(reply, 0, why, length_of(why));
    return HOLM_STATUS_BAD_ARGUMENT;
}

/* `rate`: a Period, or its number alone. */
static int32_t set_rate(const holm_command *command, holm_reply *reply)
{
    holm_reader body = holm_reader_on(command->body, command->body_length);
    uint32_t period_ms = (uint32_t)holm_read_unsigned(&body, 32);
    bool is_typed = command->schema == SCHEMA_PERIOD || command->schema == 0;
    if (!is_typed || !holm_reader_is_done(&body) || period_ms == 0) {
        return refuse(reply, "rate takes milliseconds from 1 on: --u32 500");
    }
    app.period_ms = period_ms;
    app.next_ms = clock_ms();
    return HOLM_STATUS_DONE;
}

/* `stack`: the deepest use of it, a u32. */
static int32_t tell_stack(holm_reply *reply)
{
    uint8_t bytes[5];
    holm_writer body = holm_writer_on(bytes, sizeof bytes);
    holm_write_unsigned(&body, stack_high_water_bytes());
    holm_device_answer(reply, 0, bytes, body.length);
    return HOLM_STATUS_DONE;
}

/* `exit`: one byte, the code. */
static int32_t end(const holm_command *command, holm_reply *reply)
{
    if (command->body_length != 1) {
        return refuse(reply, "exit takes one byte, the code: --hex 2a");
    }
    app.is_ending = true;
    app.exit_code = command->body[0];
    app.end_ms = clock_ms() + ANSWER_MS;
    return HOLM_STATUS_DONE;
}

static int32_t on_command(void *context, const holm_command *command, holm_reply *reply)
{
    (void)context;
    say("command %s", command->name);
    if (is(command->name, "rate")) {
        return set_rate(command, reply);
    }
    if (is(command->name, "stack")) {
        return tell_stack(reply);
    }
    if (is(command->name, "exit")) {
        return end(command, reply);
    }
    return HOLM_STATUS_UNKNOWN;
}

/* ---- Work ---- */

static void measure(holm_device *device, const char *topic)
{
    int32_t milli_celsius;
    if (!tmp105_read(&milli_celsius)) {
        say("the sensor does not answer");
        return;
    }
    uint8_t bytes[5];
    holm_writer reading = holm_writer_on(bytes, sizeof bytes);
    holm_write_signed(&reading, milli_celsius);
    uint64_t sequence;
    holm_result result = holm_device_publish(device, topic, SCHEMA_READING, bytes, reading.length, &sequence);
    if (result == HOLM_OK) {
        say("kept %u %d", (uint32_t)sequence, milli_celsius);
    } else {
        say("a reading is lost: error %d", result);
    }
}

/* Carries bytes both ways; whether there were any. */
static bool carry(holm_device *device)
{
    static uint8_t left[256];
    static size_t left_length;
    uint8_t bytes[256];
    bool moved = false;

    if (left_length == 0) {
        left_length = uart1_read(left, sizeof left);
    }
    size_t taken = holm_device_received(device, left, left_length);
    for (size_t at = taken; at < left_length; at++) {
        left[at - taken] = left[at];
    }
    left_length -= taken;
    moved |= taken > 0;

    size_t room = uart1_room();
    size_t given = holm_device_to_send(device, bytes, room < sizeof bytes ? room : sizeof bytes);
    uart1_write(bytes, given);
    return moved || given > 0;
}

static const char *topic_of(const char *name)
{
    static const char prefix[] = "sensors/";
    static char topic[128];
    size_t length = 0;
    for (const char *at = prefix; *at != '\0'; at++) {
        topic[length++] = *at;
    }
    for (; *name != '\0' && length < sizeof topic - 1; name++) {
        topic[length++] = *name;
    }
    topic[length] = '\0';
    return topic;
}

static holm_device *start(const settings *given)
{
    holm_settings settings = HOLM_SETTINGS;
    settings.name = given->name;
    settings.token = given->token;
    settings.address = given->address;
    settings.baud = BAUD;
    settings.on_event = on_event;
    settings.on_command = on_command;
    if (!sim_entropy(&settings.boot, sizeof settings.boot)) {
        say("the host has no entropy");
        sim_exit(EXIT_USAGE);
    }
    holm_device *device;
    holm_result result = holm_serial_init(memory, sizeof memory, &settings, &device);
    if (result != HOLM_OK) {
        say("the device cannot be made: error %d", result);
        sim_exit(EXIT_USAGE);
    }
    say("device %s boot %x", given->name, settings.boot);
    return device;
}

int main(void)
{
    static char line[256];
    static settings given = { .name = "press", .period_ms = 1000 };
    clock_start();
    const char *bad = "";
    if (!sim_arguments(line, sizeof line) || (bad = settings_read(line, &given)) != NULL) {
        say("`%s` on the command line: wanted name=NAME token=TOKEN address=1..247 period_ms=1..", bad);
        return EXIT_USAGE;
    }
    uart1_start(BAUD);
    holm_device *device = start(&given);
    const char *topic = topic_of(given.name);
    if (!tmp105_start()) {
        say("the sensor does not answer");
    }
    app.period_ms = given.period_ms;
    for (;;) {
        uint64_t now_ms = clock_ms();
        if (now_ms >= app.next_ms) {
            app.next_ms = now_ms + app.period_ms;
            measure(device, topic);
        }
        uint64_t due_ms;
        holm_device_poll(device, now_ms, &due_ms);
        if (app.is_ending && now_ms >= app.end_ms) {
            say("stack high water %u bytes", stack_high_water_bytes());
            return app.exit_code;
        }
        if (!carry(device) && due_ms > now_ms) {
            wait_for_interrupt();
        }
    }
}

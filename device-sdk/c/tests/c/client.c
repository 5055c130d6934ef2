/* A device in C on a socket: client PORT NAME TOKEN TOPIC COUNT
 *
 * Compiled with TLS defined, TOKEN is the path of its image of `holm device add`.
 *
 * Publishes COUNT readings, then works until the command `exit`. Says each event on a line.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "hooks.h"
#include "holm_postcard.h"

static bool is_over;

static uint64_t now_ms(void)
{
    static uint64_t start;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    if (start == 0) {
        start = ms;
    }
    return ms - start;
}

static void on_event(void *context, const holm_event *event)
{
    (void)context;
    switch (event->kind) {
    case HOLM_EVENT_CONNECTED:
        printf("connected resumed %u\n", event->resumed);
        break;
    case HOLM_EVENT_DISCONNECTED:
        printf("disconnected trouble %u reason %u\n", event->trouble, event->reason);
        break;
    case HOLM_EVENT_TIME:
        printf("time quality %u\n", event->quality);
        break;
    default: {
        static const char *const ends[] = { "acked", "refused", "dropped" };
        printf("%s %llu\n", ends[event->kind - HOLM_EVENT_ACKED], (unsigned long long)event->sequence);
    }
    }
    fflush(stdout);
}

static int32_t on_command(void *context, const holm_command *command, holm_reply *reply)
{
    holm_device **device = context;
    printf("command %s\n", command->name);
    fflush(stdout);
    if (strcmp(command->name, "echo") == 0) {
        /* A callback may publish. */
        CHECK(holm_device_publish(*device, "echo", 0, command->body, command->body_length, NULL) == HOLM_OK);
        return holm_device_answer(reply, command->schema, command->body, command->body_length) == HOLM_OK
                   ? HOLM_STATUS_DONE
                   : HOLM_STATUS_BAD_ARGUMENT;
    }
    is_over = strcmp(command->name, "exit") == 0;
    return is_over ? HOLM_STATUS_DONE : HOLM_STATUS_UNKNOWN;
}

static int dial(uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int line = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(line >= 0);
    if (connect(line, (struct sockaddr *)&address, sizeof address) != 0) {
        close(line);
        return -1;
    }
    CHECK(fcntl(line, F_SETFL, O_NONBLOCK) == 0);
    return line;
}

typedef struct {
    holm_device *device;
    uint16_t port;
    int line; /* -1: none */
    uint32_t connection;
    uint8_t in[300], out[300];
    size_t in_length, out_length;
} carrier;

/* Has the connection open that the device wants, and no other. */
static void follow(carrier *it)
{
    uint32_t wanted = holm_device_connection(it->device);
    if (wanted == it->connection) {
        return;
    }
    if (it->line >= 0) {
        close(it->line);
    }
    it->line = -1;
    it->connection = wanted;
    it->in_length = it->out_length = 0;
    if (wanted == 0) {
        return;
    }
    it->line = dial(it->port);
    if (it->line >= 0) {
        CHECK(holm_device_opened(it->device, wanted) == HOLM_OK);
    } else {
        CHECK(holm_device_closed(it->device, wanted) == HOLM_OK);
    }
}

/* Carries bytes both ways; whether the device has to be polled for it. */
static bool carry(carrier *it)
{
    if (it->line < 0) {
        return false;
    }
    bool moved = false;
    if (it->in_length == 0) {
        ssize_t length = recv(it->line, it->in, sizeof it->in, 0);
        if (length > 0) {
            it->in_length = (size_t)length;
        } else if (length == 0 || (errno != EAGAIN && errno != EINTR)) {
            holm_device_closed(it->device, it->connection);
            return true;
        }
    }
    size_t taken = holm_device_received(it->device, it->in, it->in_length);
    memmove(it->in, it->in + taken, it->in_length - taken);
    it->in_length -= taken;
    moved |= taken > 0;
    if (it->out_length == 0) {
        it->out_length = holm_device_to_send(it->device, it->out, sizeof it->out);
        moved |= it->out_length > 0;
    }
    if (it->out_length > 0) {
        ssize_t sent = send(it->line, it->out, it->out_length, MSG_NOSIGNAL);
        if (sent > 0) {
            memmove(it->out, it->out + sent, it->out_length - (size_t)sent);
            it->out_length -= (size_t)sent;
        }
    }
    return moved;
}

static void await(const carrier *it, uint64_t due_ms)
{
    uint64_t now = now_ms();
    uint64_t left_ms = due_ms > now ? due_ms - now : 0;
    struct pollfd line = { .fd = it->line, .events = POLLIN };
    line.events |= it->out_length > 0 ? POLLOUT : 0;
    poll(&line, 1, left_ms < 1000 ? (int)left_ms : 1000);
}

int main(int count, char **words)
{
    CHECK(count == 6);
#ifdef TLS
    static HOLM_ALIGNED uint8_t memory[HOLM_TLS_SIZE(4096)];
#else
    static HOLM_ALIGNED uint8_t memory[HOLM_DEVICE_SIZE(4096)];
#endif
    carrier it = { .port = (uint16_t)atoi(words[1]), .line = -1 };
    holm_settings settings = HOLM_SETTINGS;
    settings.name = words[2];
    settings.token = words[3];
    settings.boot = UINT64_C(0x0123456789abcdef);
    settings.backoff_ms_max = 200;
    settings.on_event = on_event;
    settings.on_command = on_command;
    settings.context = &it.device;
#ifdef TLS
    static uint8_t image[8192];
    FILE *file = fopen(words[3], "rb");
    CHECK(file != NULL && fread(image, 1, sizeof image, file) == sizeof image);
    fclose(file);
    static const uint8_t entropy[32] = { 1 };
    settings.name = settings.token = NULL;
    CHECK(holm_device_init_tls(memory, sizeof memory, &settings, NULL, sizeof image, entropy, &it.device)
          == HOLM_ERROR_ARGUMENT);
    CHECK(holm_device_init_tls(memory, sizeof memory, &settings, image, sizeof image, NULL, &it.device)
          == HOLM_ERROR_ARGUMENT);
    CHECK(holm_device_init_tls(memory, sizeof memory, &settings, memory, sizeof image, entropy, &it.device)
          == HOLM_ERROR_PROVISION);
    CHECK(holm_device_init_tls(memory, HOLM_TLS_SIZE(100), &settings, image, sizeof image, entropy, &it.device)
          == HOLM_ERROR_MEMORY);
    CHECK(holm_device_init_tls(memory, sizeof memory, &settings, image, sizeof image, entropy, &it.device) == HOLM_OK);
#else
    CHECK(holm_device_init(memory, sizeof memory, &settings, &it.device) == HOLM_OK);
#endif

    int left = atoi(words[5]);
    int32_t milli_celsius = -20000;
    /* The answer to `exit` is to leave before the end. */
    uint64_t end_ms = 0;
    for (;;) {
        uint8_t body[5];
        holm_writer reading = holm_writer_on(body, sizeof body);
        holm_write_signed(&reading, milli_celsius);
        if (left > 0) {
            holm_result result = holm_device_publish(it.device, words[4], UINT64_C(0xbcbc55d1530102e5), body,
                                                     reading.length, NULL);
            CHECK(result == HOLM_OK || result == HOLM_ERROR_FULL);
            left -= result == HOLM_OK;
            milli_celsius += result == HOLM_OK ? 500 : 0;
        }
        uint64_t due_ms;
        CHECK(holm_device_poll(it.device, now_ms(), &due_ms) == HOLM_OK);
        follow(&it);
        bool moved = carry(&it);
        if (is_over && end_ms == 0) {
            end_ms = now_ms() + 300;
        }
        if (end_ms != 0 && now_ms() >= end_ms) {
            return 0;
        }
        if (!moved && left == 0) {
            await(&it, end_ms != 0 && end_ms < due_ms ? end_ms : due_ms);
        }
    }
}

/* The board of the manual's program, on a computer: its connection is a socket to PORT of the environment. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int line = -1; /* -1: none */

uint64_t board_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t board_random_u64(void)
{
    return UINT64_C(0x0123456789abcdef);
}

/* One thread: there is nobody to keep out. */
uint32_t board_disable_interrupts(void)
{
    return 0;
}

void board_restore_interrupts(uint32_t state)
{
    (void)state;
}

_Noreturn void board_reset(void)
{
    abort();
}

void board_disconnect(void)
{
    if (line >= 0) {
        close(line);
    }
    line = -1;
}

int board_connect(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    address.sin_port = htons((uint16_t)atoi(getenv("PORT")));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    line = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(line, (struct sockaddr *)&address, sizeof address) != 0) {
        board_disconnect();
        return -1;
    }
    return fcntl(line, F_SETFL, O_NONBLOCK);
}

int board_read(void *out, size_t capacity)
{
    ssize_t length = recv(line, out, capacity, 0);
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    return length > 0 ? (int)length : -1;
}

size_t board_write(const void *bytes, size_t length)
{
    const uint8_t *at = bytes;
    size_t left = length;
    while (left > 0) {
        struct pollfd room = { .fd = line, .events = POLLOUT };
        poll(&room, 1, -1);
        ssize_t sent = send(line, at, left, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            break; /* the next read says that it is closed */
        }
        at += sent > 0 ? sent : 0;
        left -= sent > 0 ? (size_t)sent : 0;
    }
    return length;
}

void board_sleep_until_ms(uint64_t ms)
{
    uint64_t now_ms = board_now_ms();
    struct pollfd bytes = { .fd = line, .events = POLLIN };
    uint64_t left_ms = ms > now_ms ? ms - now_ms : 0;
    poll(&bytes, 1, left_ms < 1000 ? (int)left_ms : 1000);
}

/* Text on UART0, byte by byte: for people, so it may take its time. */

#include <stdarg.h>

#include "board.h"

#define DATA (*(volatile uint32_t *)0x40004000u)
#define STATE (*(volatile uint32_t *)0x40004004u)
#define CONTROL (*(volatile uint32_t *)0x40004008u)
#define BAUD_DIVIDER (*(volatile uint32_t *)0x40004010u)
#define STATE_SEND_FULL 1u
#define CONTROL_SEND 1u

#define BAUD 115200u
#define CLOCK_HZ 25000000u

static void put(char byte)
{
    if (CONTROL == 0) {
        BAUD_DIVIDER = CLOCK_HZ / BAUD;
        CONTROL = CONTROL_SEND;
    }
    while ((STATE & STATE_SEND_FULL) != 0) {
    }
    DATA = (uint8_t)byte;
}

static void put_text(const char *text)
{
    while (*text != '\0') {
        put(*text++);
    }
}

static void put_decimal(uint32_t value)
{
    char digits[10];
    int count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    while (count > 0) {
        put(digits[--count]);
    }
}

static void put_hexadecimal(uint64_t value)
{
    for (int shift = 60; shift >= 0; shift -= 4) {
        put("0123456789abcdef"[value >> shift & 0xf]);
    }
}

void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    put('[');
    put_decimal((uint32_t)clock_ms());
    put_text("] ");
    for (; *format != '\0'; format++) {
        if (*format != '%') {
            put(*format);
            continue;
        }
        switch (*++format) {
        case 's':
            put_text(va_arg(arguments, const char *));
            break;
        case 'u':
            put_decimal(va_arg(arguments, uint32_t));
            break;
        case 'd': {
            int32_t value = va_arg(arguments, int32_t);
            if (value < 0) {
                put('-');
            }
            put_decimal(value < 0 ? 0u - (uint32_t)value : (uint32_t)value);
            break;
        }
        case 'x':
            put_hexadecimal(va_arg(arguments, uint64_t));
            break;
        default:
            put('?');
            va_end(arguments);
            return;
        }
    }
    put_text("\r\n");
    va_end(arguments);
}

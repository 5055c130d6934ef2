#include "settings.h"

#include <stddef.h>

/* What stands behind `key=`, or NULL. */
static const char *value_of(const char *word, const char *key)
{
    while (*key != '\0') {
        if (*word++ != *key++) {
            return NULL;
        }
    }
    return *word == '=' ? word + 1 : NULL;
}

static bool number(const char *digits, uint32_t most, uint32_t *out)
{
    uint32_t value = 0;
    const char *digit = digits;
    for (; *digit >= '0' && *digit <= '9'; digit++) {
        uint32_t next = (uint32_t)(*digit - '0');
        if (value > (most - next) / 10) {
            return false;
        }
        value = value * 10 + next;
    }
    *out = value;
    return digit != digits && *digit == '\0' && value >= 1;
}

static bool set(const char *word, settings *out)
{
    const char *value;
    uint32_t address;
    if ((value = value_of(word, "name")) != NULL) {
        out->name = value;
        return true;
    }
    if ((value = value_of(word, "token")) != NULL) {
        out->token = value;
        return true;
    }
    if ((value = value_of(word, "address")) != NULL && number(value, 247, &address)) {
        out->address = (uint8_t)address;
        return true;
    }
    value = value_of(word, "period_ms");
    return value != NULL && number(value, UINT32_MAX, &out->period_ms);
}

const char *settings_read(char *line, settings *out)
{
    bool is_first = true;
    while (*line != '\0') {
        if (*line == ' ') {
            *line++ = '\0';
            continue;
        }
        char *word = line;
        while (*line != '\0' && *line != ' ') {
            line++;
        }
        bool is_last = *line == '\0';
        *line = '\0';
        if (!is_first && !set(word, out)) {
            return word;
        }
        is_first = false;
        if (is_last) {
            break;
        }
        line++;
    }
    return NULL;
}

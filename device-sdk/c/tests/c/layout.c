/* Prints every size, offset and number of the header, a line each: tests/layout.rs prints the library's. */

#include "hooks.h"

#define SIZE(type) printf(#type " %zu\n", sizeof(type))
#define FIELD(type, field) printf(#type "." #field " %zu\n", offsetof(type, field))
#define NUMBER(name) printf(#name " %lld\n", (long long)(name))

int main(void)
{
#include "layout.inc"
    return 0;
}

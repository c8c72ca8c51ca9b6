#include <stdio.h>

#include "words.h"

int main(int argc, char **argv)
{
    static char text[1 << 20];
    size_t length = fread(text, 1, sizeof text, stdin);

    print_count(count_words(text, length));
    return 0;
}

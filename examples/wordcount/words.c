#include "words.h"

struct count count_words(const char *text, int length)
{
    struct count count = {0, 0, 0};
    int in_word = 0, longest;

    for (unsigned i = 0; i < length; i++) {
        int is_space = text[i] == ' ' || text[i] == '\n';
        count.lines += text[i] == '\n';
        count.words += !in_word && !is_space;
        in_word = !is_space;
        count.bytes++;
    }
    return count;
}

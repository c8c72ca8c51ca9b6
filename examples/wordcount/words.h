struct count {
    long lines, words, bytes;
};

struct count count_words(const char *text, int length);
void print_count(struct count count);

# Made from dtee_async/cli/options.py by 'make share': change that.

function __dtee_async_names --description 'the jobs of the files on the command line; fails if there are no files'
    set -l words (commandline -opc) (commandline -ct)
    set -e words[1]
    argparse -s o/out-append=+ O/out-overwrite=+ e/err-append=+ E/err-overwrite=+ c/combined-append=+ C/combined-overwrite=+ capture= watch-fds= stderr-apart wait-for= i/ignore-interrupts q/cron jobs=+ procfile= check j/max-parallel= except=+ no-deps no-summary log-format= loop= output-error= progress force-progress v/verbose doctor schema h/help V/version -- $words 2>/dev/null
    set -l files $_flag_jobs $_flag_procfile
    set -q files[1]
    or return
    sed -n 's/^ *\[jobs\.\([A-Za-z0-9_-]*\)[].].*/\1/p; s/^\([A-Za-z0-9_-]*\):.*/\1/p' -- $files 2>/dev/null </dev/null
    return 0
end

function __dtee_async_command --description 'the command on the command line, and what follows'
    set -l words (commandline -opc) (commandline -ct)
    set -e words[1]
    argparse -s o/out-append=+ O/out-overwrite=+ e/err-append=+ E/err-overwrite=+ c/combined-append=+ C/combined-overwrite=+ capture= watch-fds= stderr-apart wait-for= i/ignore-interrupts q/cron jobs=+ procfile= check j/max-parallel= except=+ no-deps no-summary log-format= loop= output-error= progress force-progress v/verbose doctor schema h/help V/version -- $words 2>/dev/null
    or return
    set -q argv[1]
    and not string match -q -- '-*' $argv[1]
    or return
    string join0 -- $argv
    return 0
end

function __dtee_async_complete_command
    __dtee_async_names
    or __fish_complete_subcommand --commandline (__dtee_async_command | string split0)
end

complete -c dtee-async -x -n '__dtee_async_command >/dev/null' -a '(__dtee_async_complete_command)'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -s o -l out-append -d 'append standard output to FILE' -r -F
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -s O -l out-overwrite -d 'write standard output to FILE' -r -F
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -s e -l err-append -d 'append standard error to FILE' -r -F
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -s E -l err-overwrite -d 'write standard error to FILE' -r -F
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -s c -l combined-append -d 'append both, in order, to FILE' -r -F
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -s C -l combined-overwrite -d 'write both, in order, to FILE' -r -F
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -l capture -d 'how to capture: auto (default), ordered, turnstile, pipe or pty' -x -a 'auto ordered turnstile pipe pty'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -l watch-fds -d 'with --capture=turnstile: the file descriptors to order, 1-2 (default) or 1-9' -x -a '1-2 1-9'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -l stderr-apart -d 'with --capture=pty: standard error does not go through the terminal'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -l wait-for -d 'end with the command'"'"'s exit (default), or when its last writers are gone' -x -a 'exit writers'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -s i -l ignore-interrupts -d 'ignore interrupt signals; the command still gets its own'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -s q -l cron -d 'be silent unless the command writes to standard error or fails'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -l jobs -d 'run the jobs of a TOML file; may be given again: later files win' -r -F
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -l procfile -d 'run the processes of a Procfile' -r -F
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -l check -d 'with jobs: check the files, show the order of the starts, and run nothing'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -s j -l max-parallel -d 'with jobs: run no more than N at once (0: no limit)' -x -a ''
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -l except -d 'with jobs: leave this one out; may be given again' -x -a '(__dtee_async_names)'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -l no-deps -d 'with jobs: not those that the chosen ones depend on'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -l no-summary -d 'with jobs: no table at the end'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -l log-format -d 'with jobs: console (default) or json' -x -a 'console json'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -l loop -d 'with jobs: the event loop, uvloop (default) or asyncio' -x -a 'uvloop asyncio'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -l output-error -d 'with -: what to do when an output fails: warn, warn-nopipe, exit or exit-nopipe, as tee(1)' -x -a 'warn warn-nopipe exit exit-nopipe'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -l progress -d 'with -: show bytes, rate and time on standard error, if that is a terminal'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -l force-progress -d 'with -: the same, whatever standard error is'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -s v -l verbose -d 'say which capture mode was chosen, and why; with -: how each output got its bytes'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -l doctor -d 'show what this system offers, what to change, and what that buys'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -l schema -d 'show the JSON Schema of a jobs file, for editors'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -s h -l help -d 'show this and exit'
complete -c dtee-async -n 'not __dtee_async_command >/dev/null' -s V -l version -d 'show the version and exit'

/* Starts a program under a pid of one's choice, as a machine does by chance that has used up its pids:
 * at_pid PID PROGRAM ARGUMENT... Ends with 1 where the pid is taken. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int count, char **words)
{
    pid_t pid = count > 2 ? atoi(words[1]) : 0;
    struct clone_args how = { .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1 };
    long child = syscall(SYS_clone3, &how, sizeof how);
    if (child < 0) {
        int is_taken = errno == EEXIST;
        perror("clone3");
        return is_taken ? 1 : 2;
    }
    if (child == 0) {
        setsid();
        execvp(words[2], words + 2);
        _exit(127);
    }
    return 0;
}

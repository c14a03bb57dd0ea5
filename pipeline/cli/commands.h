/* commands: the entry of each command, one file cmd_NAME.c each; main.c holds the table with their help. */
#ifndef MQ_CLI_COMMANDS_H
#define MQ_CLI_COMMANDS_H

int mq_cmd_validate(int argc, char **argv);
int mq_cmd_config(int argc, char **argv);
int mq_cmd_plan(int argc, char **argv);
int mq_cmd_run(int argc, char **argv);

int mq_cmd_verify(int argc, char **argv);
int mq_cmd_show(int argc, char **argv);
int mq_cmd_search(int argc, char **argv);
int mq_cmd_releases(int argc, char **argv);
int mq_cmd_rollback(int argc, char **argv);
int mq_cmd_gc(int argc, char **argv);
int mq_cmd_evaluate(int argc, char **argv);

int mq_cmd_doctor(int argc, char **argv);
int mq_cmd_bench(int argc, char **argv);
int mq_cmd_tokenize(int argc, char **argv);
int mq_cmd_embed(int argc, char **argv);
int mq_cmd_simulate(int argc, char **argv);

#endif

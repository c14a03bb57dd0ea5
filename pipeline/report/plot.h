/* plot: lines over a logarithmic x axis as an SVG picture. */
#ifndef MQ_REPORT_PLOT_H
#define MQ_REPORT_PLOT_H

#include "pipeline/base/base.h"

typedef struct mq_plot_line {
  char label[32];
  int n;
  const double *x, *y; /* x ascending and positive, y not negative */
} mq_plot_line;

/* At most 8 lines are told apart by colour. */
void mq_plot_svg(const char *title, const char *x_label, const char *y_label, const mq_plot_line *lines, int n_lines,
                 mq_buffer *svg);

#endif

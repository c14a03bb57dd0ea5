/* plot: see plot.h. Colours: Okabe & Ito 2008, told apart by colour-blind readers too. */
#include "pipeline/report/plot.h"

#include <math.h>

enum { WIDTH = 760, HEIGHT = 440, LEFT = 90, RIGHT = 150, TOP = 50, BOTTOM = 60 };

static const char *const colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                      "#e69f00", "#56b4e9", "#000000", "#999999"};

/* 1, 2 or 5 times a power of ten, at least `value`. */
static double round_up(double value) {
  const double power = pow(10, floor(log10(value)));
  const double steps[] = {1, 2, 5, 10};
  for (size_t i = 0; i < MQ_COUNT(steps); i++)
    if (steps[i] * power >= value * (1 - 1e-9))
      return steps[i] * power;
  return 10 * power;
}

static void add_text(mq_buffer *svg, double x, double y, const char *attributes, const char *text) {
  mq_buffer_printf(svg, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, attributes);
  for (; *text; text++)
    if (*text == '<')
      mq_buffer_text(svg, "&lt;");
    else if (*text == '&')
      mq_buffer_text(svg, "&amp;");
    else
      mq_buffer_append(svg, text, 1);
  mq_buffer_text(svg, "</text>\n");
}

static void add_number(mq_buffer *svg, double x, double y, const char *attributes, double value) {
  char text[32];
  if (value >= 1e6)
    snprintf(text, sizeof text, "%g M", value / 1e6);
  else if (value >= 1e4)
    snprintf(text, sizeof text, "%g k", value / 1e3);
  else
    snprintf(text, sizeof text, "%g", value);
  add_text(svg, x, y, attributes, text);
}

void mq_plot_svg(const char *title, const char *x_label, const char *y_label, const mq_plot_line *lines, int n_lines,
                 mq_buffer *svg) {
  double x_low = INFINITY, x_high = 0, y_high = 0;
  for (int l = 0; l < n_lines; l++)
    for (int i = 0; i < lines[l].n; i++) {
      x_low = fmin(x_low, lines[l].x[i]);
      x_high = fmax(x_high, lines[l].x[i]);
      y_high = fmax(y_high, lines[l].y[i]);
    }
  if (x_high <= x_low) /* one point, or none */
    x_high = 2 * (x_low = isfinite(x_low) ? x_low : 1);
  const double step = round_up(fmax(y_high, 1e-9) / 5), y_top = step * ceil(y_high / step + 1e-9);
  const double x_scale = (WIDTH - LEFT - RIGHT) / log2(x_high / x_low), y_scale = (HEIGHT - TOP - BOTTOM) / y_top;
  mq_buffer_printf(svg,
                   "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
                   "font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%%\" height=\"100%%\" "
                   "fill=\"white\"/>\n",
                   WIDTH, HEIGHT, WIDTH, HEIGHT);
  add_text(svg, LEFT, 26, "font-size=\"15\" font-weight=\"bold\"", title);
  add_text(svg, LEFT + (WIDTH - LEFT - RIGHT) / 2.0, HEIGHT - 14, "text-anchor=\"middle\"", x_label);
  add_text(svg, 20, TOP + (HEIGHT - TOP - BOTTOM) / 2.0, "text-anchor=\"middle\" transform=\"rotate(-90 20 215)\"",
           y_label);
  for (double y = 0; y <= y_top * (1 + 1e-9); y += step) {
    const double at = HEIGHT - BOTTOM - y * y_scale;
    mq_buffer_printf(svg, "<path d=\"M%d %.1fH%d\" stroke=\"#ddd\"/>\n", LEFT, at, WIDTH - RIGHT);
    add_number(svg, LEFT - 8, at + 4, "text-anchor=\"end\"", y);
  }
  for (double x = x_low; x <= x_high * (1 + 1e-9); x *= 2) {
    const double at = LEFT + log2(x / x_low) * x_scale;
    mq_buffer_printf(svg, "<path d=\"M%.1f %dV%d\" stroke=\"#ddd\"/>\n", at, TOP, HEIGHT - BOTTOM);
    add_number(svg, at, HEIGHT - BOTTOM + 18, "text-anchor=\"middle\"", x);
  }
  for (int l = 0; l < n_lines; l++) {
    const char *colour = colours[l % (int)MQ_COUNT(colours)];
    mq_buffer_printf(svg, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colour);
    for (int i = 0; i < lines[l].n; i++)
      mq_buffer_printf(svg, "%.1f,%.1f ", LEFT + log2(lines[l].x[i] / x_low) * x_scale,
                       HEIGHT - BOTTOM - lines[l].y[i] * y_scale);
    mq_buffer_text(svg, "\"/>\n");
    for (int i = 0; i < lines[l].n; i++)
      mq_buffer_printf(svg, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n",
                       LEFT + log2(lines[l].x[i] / x_low) * x_scale, HEIGHT - BOTTOM - lines[l].y[i] * y_scale, colour);
    mq_buffer_printf(svg, "<path d=\"M%d %dh24\" stroke=\"%s\" stroke-width=\"2\"/>\n", WIDTH - RIGHT + 16,
                     TOP + 10 + 22 * l, colour);
    add_text(svg, WIDTH - RIGHT + 46, TOP + 14 + 22 * l, "", lines[l].label);
  }
  mq_buffer_text(svg, "</svg>\n");
}

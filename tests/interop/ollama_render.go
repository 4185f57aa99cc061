// What Ollama makes of a template: its variables and its `json` function, in Go's own text/template.
//
// Standard input: {"template": "…", "cases": [{"messages": […], "tools": […], "think": true, false or null}]}, in the
// shape of Ollama's chat requests. Standard output: the rendered texts, as a JSON list.
package main

import (
	"encoding/json"
	"log"
	"os"
	"strings"
	"text/template"
)

type message struct {
	Role, Content, Thinking string
	ToolCalls               []struct {
		Function struct {
			Name      string
			Arguments map[string]any
		}
	} `json:"tool_calls"`
}

type tool struct {
	Type     string `json:"type"`
	Function struct {
		Name        string `json:"name"`
		Description string `json:"description"`
		Parameters  struct {
			Type       string              `json:"type"`
			Required   []string            `json:"required,omitempty"`
			Properties map[string]property `json:"properties"`
		} `json:"parameters"`
	} `json:"function"`
}

type property struct {
	Type        any    `json:"type,omitempty"` // a string or several
	Items       any    `json:"items,omitempty"`
	Description string `json:"description,omitempty"`
	Enum        []any  `json:"enum,omitempty"`
}

func main() {
	var input struct {
		Template string
		Cases    []struct {
			Messages []message
			Tools    []tool
			Think    *bool
		}
	}
	check(json.NewDecoder(os.Stdin).Decode(&input))
	functions := template.FuncMap{"json": func(value any) string {
		text, err := json.Marshal(value)
		check(err)
		return string(text)
	}}
	parsed, err := template.New("").Option("missingkey=zero").Funcs(functions).Parse(input.Template)
	check(err)
	rendered := []string{}
	for _, one := range input.Cases {
		var text strings.Builder
		check(parsed.Execute(&text, map[string]any{
			"Messages":   one.Messages,
			"Tools":      one.Tools,
			"Think":      one.Think != nil && *one.Think,
			"IsThinkSet": one.Think != nil,
		}))
		rendered = append(rendered, text.String())
	}
	output := json.NewEncoder(os.Stdout)
	output.SetEscapeHTML(false)
	check(output.Encode(rendered))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
